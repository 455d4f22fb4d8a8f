-- From format 1 to format 2, in one transaction: numbers that are used once, reasons that later passes can judge, attempts,
-- and the source folder of each intent. The tables are written out and not taken from schema.sql, which goes on to later
-- formats while this stays as it is.
ALTER TABLE message RENAME TO message_1;
DROP INDEX message_arrival;
CREATE TABLE message (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  protocol TEXT NOT NULL,
  folder TEXT NOT NULL,
  uidvalidity INTEGER NOT NULL,
  uid INTEGER NOT NULL,
  uidl TEXT NOT NULL,
  size INTEGER NOT NULL,
  date INTEGER,
  date_offset INTEGER,
  flags TEXT NOT NULL,
  exact BLOB,
  canonical BLOB,
  message_id TEXT,
  subject TEXT,
  dst_folder TEXT,
  dst_uidvalidity INTEGER,
  dst_uid INTEGER,
  verdict TEXT NOT NULL,
  reason TEXT,
  gone INTEGER NOT NULL DEFAULT 0,
  code TEXT,
  bound INTEGER,
  attempts INTEGER NOT NULL DEFAULT 0,
  announced INTEGER,
  UNIQUE (folder, protocol, uidvalidity, uid, uidl)
);
INSERT INTO message (id, protocol, folder, uidvalidity, uid, uidl, size, date, date_offset, flags, exact, canonical, message_id,
  subject, dst_folder, dst_uidvalidity, dst_uid, verdict, reason, gone)
  SELECT id, protocol, folder, uidvalidity, uid, uidl, size, date, date_offset, flags, exact, canonical, message_id,
  subject, dst_folder, dst_uidvalidity, dst_uid, verdict, reason, gone FROM message_1;
DROP TABLE message_1;
-- An intent may name messages that are forgotten: their numbers are not given to others either.
DELETE FROM sqlite_sequence WHERE name = 'message';
INSERT INTO sqlite_sequence (name, seq) SELECT 'message', max(
  coalesce((SELECT max(id) FROM message), 0), coalesce((SELECT max(message) FROM intent_message), 0));
CREATE INDEX message_arrival ON message (dst_folder, dst_uidvalidity, dst_uid);
CREATE INDEX message_open ON message (folder, id) WHERE verdict IN ('Pending', 'Quarantined') AND gone = 0;
CREATE INDEX message_other ON message (verdict) WHERE verdict NOT IN ('Pending', 'Delivered');
CREATE INDEX message_unbound ON message (folder, id)
  WHERE dst_uid IS NULL AND verdict IN ('Delivered', 'DeliveredAltered');
CREATE INDEX message_found ON message (verdict) WHERE verdict = 'Delivered' AND code IS NOT NULL;
CREATE INDEX message_gone ON message (folder, protocol, uidvalidity, verdict) WHERE gone = 1;
-- Intents are few, and none lasts longer than the next pass: their numbers need not be unique for ever.
ALTER TABLE intent ADD COLUMN source TEXT NOT NULL DEFAULT '[]';
-- Where all messages of an intent are forgotten nothing is in doubt, and no source folder would ever end it.
DELETE FROM intent WHERE NOT EXISTS (SELECT 1 FROM intent_message AS i JOIN message AS m ON m.id = i.message
  WHERE i.intent = intent.id);
UPDATE intent SET source = coalesce((SELECT m.folder FROM intent_message AS i JOIN message AS m ON m.id = i.message
  WHERE i.intent = intent.id LIMIT 1), '[]');
ALTER TABLE cursor RENAME TO cursor_1;
CREATE TABLE cursor (
  folder TEXT PRIMARY KEY,
  uidvalidity INTEGER NOT NULL,
  uidnext INTEGER,
  messages INTEGER,
  modseq INTEGER,
  dst_uidvalidity INTEGER NOT NULL,
  dst_scanned INTEGER NOT NULL,
  dst_folder TEXT
) WITHOUT ROWID;
INSERT INTO cursor SELECT c.folder, uidvalidity, uidnext, messages, modseq, dst_uidvalidity, dst_scanned,
  (SELECT m.dst_folder FROM message AS m WHERE m.folder = c.folder AND m.dst_folder IS NOT NULL ORDER BY m.id DESC LIMIT 1)
  FROM cursor_1 AS c;
DROP TABLE cursor_1;
