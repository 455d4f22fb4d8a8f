-- From format 2 to format 3, in one transaction: epochs and places instead of UIDVALIDITYs, UIDs and unique ids, marks instead
-- of UIDNEXTs and modseqs, and the digest of what was stored. The tables are written out and not taken from schema.sql, which
-- goes on to later formats while this stays as it is.
CREATE TABLE item (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL DEFAULT 'Mail',
  protocol TEXT NOT NULL,
  folder TEXT NOT NULL,
  epoch NOT NULL,
  place NOT NULL,
  size INTEGER NOT NULL,
  date INTEGER,
  date_offset INTEGER,
  flags TEXT NOT NULL,
  exact BLOB,
  canonical BLOB,
  message_id TEXT,
  subject TEXT,
  dst_folder TEXT,
  dst_epoch,
  dst_place,
  verdict TEXT NOT NULL,
  reason TEXT,
  gone INTEGER NOT NULL DEFAULT 0,
  code TEXT,
  bound INTEGER,
  attempts INTEGER NOT NULL DEFAULT 0,
  announced INTEGER,
  stored BLOB,
  UNIQUE (folder, protocol, epoch, place)
);
INSERT INTO item (id, protocol, folder, epoch, place, size, date, date_offset, flags, exact, canonical, message_id, subject,
  dst_folder, dst_epoch, dst_place, verdict, reason, gone, code, bound, attempts, announced)
  SELECT id, protocol, folder, CASE protocol WHEN 'POP3' THEN '' WHEN 'UNLISTED' THEN 'unlisted' ELSE uidvalidity END,
  CASE uidl WHEN '' THEN uid ELSE uidl END, size, date, date_offset, flags, exact, canonical, message_id, subject,
  dst_folder, dst_uidvalidity, dst_uid, verdict, reason, gone, code, bound, attempts, announced FROM message ORDER BY id;
-- Numbers of messages that are forgotten are given to no other.
DELETE FROM sqlite_sequence WHERE name = 'item';
INSERT INTO sqlite_sequence (name, seq)
  SELECT 'item', coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'message'), 0);
DROP TABLE message;
CREATE INDEX item_arrival ON item (dst_folder, dst_epoch, dst_place);
CREATE INDEX item_open ON item (folder, id) WHERE verdict IN ('Pending', 'Quarantined') AND gone = 0;
CREATE INDEX item_other ON item (verdict) WHERE verdict NOT IN ('Pending', 'Delivered');
CREATE INDEX item_unbound ON item (folder, id)
  WHERE dst_place IS NULL AND verdict IN ('Delivered', 'DeliveredAltered');
CREATE INDEX item_found ON item (verdict) WHERE verdict = 'Delivered' AND code IS NOT NULL;
CREATE INDEX item_gone ON item (folder, protocol, epoch, verdict) WHERE gone = 1;
CREATE VIEW message AS SELECT id, protocol, folder,
  CASE typeof(epoch) WHEN 'integer' THEN epoch ELSE 0 END AS uidvalidity,
  CASE typeof(place) WHEN 'integer' THEN place ELSE 0 END AS uid,
  CASE typeof(place) WHEN 'text' THEN place ELSE '' END AS uidl,
  size, date, date_offset, flags, exact, canonical, message_id, subject,
  dst_folder, dst_epoch AS dst_uidvalidity, dst_place AS dst_uid,
  verdict, reason, gone, code, bound, attempts, announced FROM item;
-- The table itself stays: with it the messages of its intents would go.
ALTER TABLE intent ADD COLUMN epoch NOT NULL DEFAULT '';
ALTER TABLE intent ADD COLUMN mark TEXT;
UPDATE intent SET epoch = uidvalidity, mark = CASE WHEN uidnext > 1 THEN CAST(uidnext AS TEXT) END;
ALTER TABLE intent DROP COLUMN uidvalidity;
ALTER TABLE intent DROP COLUMN uidnext;
ALTER TABLE foreign_message RENAME TO foreign_message_2;
CREATE TABLE foreign_message (
  folder TEXT NOT NULL,
  epoch NOT NULL,
  place NOT NULL,
  exact BLOB NOT NULL,
  canonical BLOB NOT NULL,
  message_id TEXT,
  PRIMARY KEY (folder, epoch, place)
) WITHOUT ROWID;
INSERT INTO foreign_message SELECT folder, uidvalidity, uid, exact, canonical, message_id FROM foreign_message_2;
DROP TABLE foreign_message_2;
ALTER TABLE cursor RENAME TO cursor_2;
CREATE TABLE cursor (
  folder TEXT PRIMARY KEY,
  epoch NOT NULL,
  mark TEXT,
  items INTEGER,
  proves INTEGER NOT NULL,
  dst_epoch NOT NULL,
  dst_mark TEXT,
  dst_folder TEXT
) WITHOUT ROWID;
-- A mark of IMAP: UIDNEXT, and behind a blank the modseq; a hyphen where the server told no UIDNEXT. UIDVALIDITY 0 was that of
-- servers that have none.
INSERT INTO cursor SELECT folder, CASE uidvalidity WHEN 0 THEN '' ELSE uidvalidity END,
  CASE WHEN modseq IS NOT NULL THEN coalesce(uidnext, '-') || ' ' || CASE WHEN modseq < 0 THEN printf('%llu', modseq) ELSE modseq END
    WHEN uidnext IS NOT NULL THEN CAST(uidnext AS TEXT) END,
  messages, modseq IS NOT NULL, CASE dst_uidvalidity WHEN 0 THEN '' ELSE dst_uidvalidity END,
  CASE WHEN dst_scanned > 1 THEN CAST(dst_scanned AS TEXT) END, dst_folder FROM cursor_2;
DROP TABLE cursor_2;
