-- A mailbox's ledger. A change here is a new version in file.rs, with an upgrade from the version before.
CREATE TABLE message (
  -- No number is used twice, also when the row is gone.
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
CREATE INDEX message_arrival ON message (dst_folder, dst_uidvalidity, dst_uid);
CREATE INDEX message_open ON message (folder, id) WHERE verdict IN ('Pending', 'Quarantined') AND gone = 0;
-- Few rows are in these, so that they cost nothing while messages are carried, and let a pass over a large folder in which
-- little changed ask without going through all of its rows.
CREATE INDEX message_other ON message (verdict) WHERE verdict NOT IN ('Pending', 'Delivered');
CREATE INDEX message_unbound ON message (folder, id)
  WHERE dst_uid IS NULL AND verdict IN ('Delivered', 'DeliveredAltered');
CREATE INDEX message_found ON message (verdict) WHERE verdict = 'Delivered' AND code IS NOT NULL;
CREATE INDEX message_gone ON message (folder, protocol, uidvalidity, verdict) WHERE gone = 1;
CREATE TABLE intent (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  folder TEXT NOT NULL,
  uidvalidity INTEGER NOT NULL,
  uidnext INTEGER NOT NULL,
  source TEXT NOT NULL
);
CREATE TABLE intent_message (
  intent INTEGER NOT NULL REFERENCES intent (id) ON DELETE CASCADE,
  message INTEGER NOT NULL,
  PRIMARY KEY (intent, message)
) WITHOUT ROWID;
CREATE TABLE foreign_message (
  folder TEXT NOT NULL,
  uidvalidity INTEGER NOT NULL,
  uid INTEGER NOT NULL,
  exact BLOB NOT NULL,
  canonical BLOB NOT NULL,
  message_id TEXT,
  PRIMARY KEY (folder, uidvalidity, uid)
) WITHOUT ROWID;
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
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
