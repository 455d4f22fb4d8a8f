-- A mailbox's ledger. A change here is a new version in file.rs, with an upgrade from the version before.
CREATE TABLE item (
  -- No number is used twice, also when the row is gone.
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL DEFAULT 'Mail',
  protocol TEXT NOT NULL,
  folder TEXT NOT NULL,
  -- Epochs and places have no type, so that what is given as a number is kept as one and a text as the text that it is. Numbers
  -- come before all texts.
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
CREATE INDEX item_arrival ON item (dst_folder, dst_epoch, dst_place);
CREATE INDEX item_open ON item (folder, id) WHERE verdict IN ('Pending', 'Quarantined') AND gone = 0;
-- Few rows are in these, so that they cost nothing while messages are carried, and let a pass over a large folder in which
-- little changed ask without going through all of its rows.
CREATE INDEX item_other ON item (verdict) WHERE verdict NOT IN ('Pending', 'Delivered');
CREATE INDEX item_unbound ON item (folder, id)
  WHERE dst_place IS NULL AND verdict IN ('Delivered', 'DeliveredAltered');
CREATE INDEX item_found ON item (verdict) WHERE verdict = 'Delivered' AND code IS NOT NULL;
CREATE INDEX item_gone ON item (folder, protocol, epoch, verdict) WHERE gone = 1;
-- What was the table of messages, in the words that documented queries use.
CREATE VIEW message AS SELECT id, protocol, folder,
  CASE typeof(epoch) WHEN 'integer' THEN epoch ELSE 0 END AS uidvalidity,
  CASE typeof(place) WHEN 'integer' THEN place ELSE 0 END AS uid,
  CASE typeof(place) WHEN 'text' THEN place ELSE '' END AS uidl,
  size, date, date_offset, flags, exact, canonical, message_id, subject,
  dst_folder, dst_epoch AS dst_uidvalidity, dst_place AS dst_uid,
  verdict, reason, gone, code, bound, attempts, announced FROM item;
CREATE TABLE intent (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  folder TEXT NOT NULL,
  source TEXT NOT NULL,
  epoch NOT NULL,
  mark TEXT
);
CREATE TABLE intent_message (
  intent INTEGER NOT NULL REFERENCES intent (id) ON DELETE CASCADE,
  message INTEGER NOT NULL,
  PRIMARY KEY (intent, message)
) WITHOUT ROWID;
CREATE TABLE foreign_message (
  folder TEXT NOT NULL,
  epoch NOT NULL,
  place NOT NULL,
  exact BLOB NOT NULL,
  canonical BLOB NOT NULL,
  message_id TEXT,
  PRIMARY KEY (folder, epoch, place)
) WITHOUT ROWID;
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
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
