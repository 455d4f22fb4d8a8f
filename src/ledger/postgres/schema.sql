-- Ledgers of many mailboxes. The tables and columns are those of sqlite/schema.sql, with the ledger before each key. A
-- change here is a new format in schema.rs.
CREATE TABLE mailferry.format (version INTEGER NOT NULL);
CREATE TABLE mailferry.ledger (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  scope TEXT NOT NULL,
  mailbox TEXT NOT NULL,
  -- The last number that a row was given: none is used twice, also when the row is gone.
  last_row BIGINT NOT NULL DEFAULT 0,
  UNIQUE (scope, mailbox)
);
CREATE TABLE mailferry.message (
  ledger BIGINT NOT NULL REFERENCES mailferry.ledger (id) ON DELETE CASCADE,
  id BIGINT NOT NULL,
  protocol TEXT NOT NULL,
  folder TEXT COLLATE "C" NOT NULL,
  uidvalidity BIGINT NOT NULL,
  uid BIGINT NOT NULL,
  uidl TEXT COLLATE "C" NOT NULL,
  size BIGINT NOT NULL,
  date BIGINT,
  date_offset INTEGER,
  flags TEXT NOT NULL,
  exact BYTEA,
  canonical BYTEA,
  message_id TEXT,
  subject TEXT,
  dst_folder TEXT COLLATE "C",
  dst_uidvalidity BIGINT,
  dst_uid BIGINT,
  verdict TEXT NOT NULL,
  reason TEXT,
  gone BOOLEAN NOT NULL DEFAULT false,
  code TEXT,
  bound BIGINT,
  attempts BIGINT NOT NULL DEFAULT 0,
  announced BIGINT,
  PRIMARY KEY (ledger, id),
  UNIQUE (ledger, folder, protocol, uidvalidity, uid, uidl)
);
CREATE INDEX message_arrival ON mailferry.message (ledger, dst_folder, dst_uidvalidity, dst_uid)
  WHERE dst_uid IS NOT NULL;
CREATE INDEX message_open ON mailferry.message (ledger, folder, id)
  WHERE verdict IN ('Pending', 'Quarantined') AND NOT gone;
CREATE TABLE mailferry.intent (
  ledger BIGINT NOT NULL REFERENCES mailferry.ledger (id) ON DELETE CASCADE,
  id BIGINT NOT NULL,
  folder TEXT NOT NULL,
  uidvalidity BIGINT NOT NULL,
  uidnext BIGINT NOT NULL,
  source TEXT NOT NULL DEFAULT '[]',
  PRIMARY KEY (ledger, id)
);
CREATE TABLE mailferry.intent_message (
  ledger BIGINT NOT NULL,
  intent BIGINT NOT NULL,
  message BIGINT NOT NULL,
  PRIMARY KEY (ledger, intent, message),
  FOREIGN KEY (ledger, intent) REFERENCES mailferry.intent (ledger, id) ON DELETE CASCADE
);
CREATE TABLE mailferry.foreign_message (
  ledger BIGINT NOT NULL REFERENCES mailferry.ledger (id) ON DELETE CASCADE,
  folder TEXT COLLATE "C" NOT NULL,
  uidvalidity BIGINT NOT NULL,
  uid BIGINT NOT NULL,
  exact BYTEA NOT NULL,
  canonical BYTEA NOT NULL,
  message_id TEXT,
  PRIMARY KEY (ledger, folder, uidvalidity, uid)
);
CREATE TABLE mailferry.cursor (
  ledger BIGINT NOT NULL REFERENCES mailferry.ledger (id) ON DELETE CASCADE,
  folder TEXT COLLATE "C" NOT NULL,
  uidvalidity BIGINT NOT NULL,
  uidnext BIGINT,
  messages BIGINT,
  modseq BIGINT,
  dst_uidvalidity BIGINT NOT NULL,
  dst_scanned BIGINT NOT NULL,
  dst_folder TEXT,
  PRIMARY KEY (ledger, folder)
);
CREATE TABLE mailferry.fact (
  ledger BIGINT NOT NULL REFERENCES mailferry.ledger (id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (ledger, name)
);
CREATE TABLE mailferry.login (
  key TEXT NOT NULL,
  at BIGINT NOT NULL,
  holder TEXT
);
CREATE INDEX login_key ON mailferry.login (key);
CREATE TABLE mailferry.login_salt (salt BYTEA NOT NULL);
