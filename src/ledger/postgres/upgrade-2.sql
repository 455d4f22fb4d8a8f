-- From format 1 to format 2, in one transaction. Columns are added behind those that are there, with values of their own, so
-- that a worker of the version before may go on until it ends. It may be writing just now: the tables are locked in the order
-- in which its statements come to them, so that neither waits for the other for ever.
LOCK TABLE mailferry.message, mailferry.intent, mailferry.intent_message, mailferry.cursor, mailferry.ledger
  IN ACCESS EXCLUSIVE MODE;
ALTER TABLE mailferry.ledger ADD COLUMN last_row BIGINT NOT NULL DEFAULT 0;
UPDATE mailferry.ledger AS l SET last_row = greatest(
  coalesce((SELECT max(id) FROM mailferry.message WHERE ledger = l.id), 0),
  coalesce((SELECT max(message) FROM mailferry.intent_message WHERE ledger = l.id), 0));
ALTER TABLE mailferry.message ADD COLUMN code TEXT, ADD COLUMN bound BIGINT,
  ADD COLUMN attempts BIGINT NOT NULL DEFAULT 0, ADD COLUMN announced BIGINT;
CREATE INDEX message_open ON mailferry.message (ledger, folder, id)
  WHERE verdict IN ('Pending', 'Quarantined') AND NOT gone;
-- Where all messages of an intent are forgotten nothing is in doubt, and no source folder would ever end it.
DELETE FROM mailferry.intent AS i WHERE NOT EXISTS (SELECT FROM mailferry.intent_message AS w
  JOIN mailferry.message AS m ON m.ledger = w.ledger AND m.id = w.message WHERE w.ledger = i.ledger AND w.intent = i.id);
ALTER TABLE mailferry.intent ADD COLUMN source TEXT NOT NULL DEFAULT '[]';
UPDATE mailferry.intent AS i SET source = coalesce((SELECT m.folder FROM mailferry.intent_message AS w
  JOIN mailferry.message AS m ON m.ledger = w.ledger AND m.id = w.message
  WHERE w.ledger = i.ledger AND w.intent = i.id LIMIT 1), '[]');
ALTER TABLE mailferry.cursor ALTER COLUMN messages DROP NOT NULL;
ALTER TABLE mailferry.cursor ADD COLUMN dst_folder TEXT;
UPDATE mailferry.cursor AS c SET dst_folder = (SELECT m.dst_folder FROM mailferry.message AS m
  WHERE m.ledger = c.ledger AND m.folder = c.folder AND m.dst_folder IS NOT NULL ORDER BY m.id DESC LIMIT 1);
