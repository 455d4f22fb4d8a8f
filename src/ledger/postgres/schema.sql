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
CREATE TABLE mailferry.item (
  ledger BIGINT NOT NULL REFERENCES mailferry.ledger (id) ON DELETE CASCADE,
  id BIGINT NOT NULL,
  kind TEXT NOT NULL DEFAULT 'Mail',
  protocol TEXT NOT NULL,
  folder TEXT COLLATE "C" NOT NULL,
  epoch TEXT COLLATE "C" NOT NULL,
  -- A number in ten figures, or a text behind a colon: so numbers sort as such, and before all texts.
  place TEXT COLLATE "C" NOT NULL,
  size BIGINT NOT NULL,
  date BIGINT,
  date_offset INTEGER,
  flags TEXT NOT NULL,
  exact BYTEA,
  canonical BYTEA,
  message_id TEXT,
  subject TEXT,
  dst_folder TEXT COLLATE "C",
  dst_epoch TEXT COLLATE "C",
  dst_place TEXT COLLATE "C",
  verdict TEXT NOT NULL,
  reason TEXT,
  gone BOOLEAN NOT NULL DEFAULT false,
  code TEXT,
  bound BIGINT,
  attempts BIGINT NOT NULL DEFAULT 0,
  announced BIGINT,
  stored BYTEA,
  PRIMARY KEY (ledger, id),
  UNIQUE (ledger, folder, protocol, epoch, place)
);
CREATE INDEX item_arrival ON mailferry.item (ledger, dst_folder, dst_epoch, dst_place)
  WHERE dst_place IS NOT NULL;
CREATE INDEX item_open ON mailferry.item (ledger, folder, id)
  WHERE verdict IN ('Pending', 'Quarantined') AND NOT gone;
-- What was the table of messages, in the words that documented queries use.
CREATE VIEW mailferry.message AS SELECT ledger, id, protocol, folder,
  CASE WHEN epoch ~ '^[0-9]+$' THEN epoch::bigint ELSE 0 END AS uidvalidity,
  CASE WHEN place LIKE ':%' THEN 0 ELSE place::bigint END AS uid,
  CASE WHEN place LIKE ':%' THEN substr(place, 2) ELSE '' END AS uidl,
  size, date, date_offset, flags, exact, canonical, message_id, subject, dst_folder,
  CASE WHEN dst_epoch ~ '^[0-9]+$' THEN dst_epoch::bigint END AS dst_uidvalidity,
  CASE WHEN dst_place NOT LIKE ':%' THEN dst_place::bigint END AS dst_uid,
  verdict, reason, gone, code, bound, attempts, announced FROM mailferry.item;
CREATE TABLE mailferry.intent (
  ledger BIGINT NOT NULL REFERENCES mailferry.ledger (id) ON DELETE CASCADE,
  id BIGINT NOT NULL,
  folder TEXT NOT NULL,
  source TEXT NOT NULL DEFAULT '[]',
  epoch TEXT NOT NULL,
  mark TEXT,
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
  epoch TEXT COLLATE "C" NOT NULL,
  place TEXT COLLATE "C" NOT NULL,
  exact BYTEA NOT NULL,
  canonical BYTEA NOT NULL,
  message_id TEXT,
  PRIMARY KEY (ledger, folder, epoch, place)
);
CREATE TABLE mailferry.cursor (
  ledger BIGINT NOT NULL REFERENCES mailferry.ledger (id) ON DELETE CASCADE,
  folder TEXT COLLATE "C" NOT NULL,
  epoch TEXT NOT NULL,
  mark TEXT,
  items BIGINT,
  proves BOOLEAN NOT NULL,
  dst_epoch TEXT NOT NULL,
  dst_mark TEXT,
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
