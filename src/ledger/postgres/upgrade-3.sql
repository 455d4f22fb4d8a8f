-- From format 2 to format 3, in one transaction: epochs and places instead of UIDVALIDITYs, UIDs and unique ids, marks instead
-- of UIDNEXTs and modseqs, and the digest of what was stored. A worker of the version before that is at work now gets an error
-- at its next statement that speaks of a place: nothing of it is lost, and whoever carries its mailbox next goes on. It may be
-- writing just now: the tables are locked in the order in which its statements come to them, so that neither waits for the
-- other for ever.
LOCK TABLE mailferry.message, mailferry.foreign_message, mailferry.intent, mailferry.intent_message, mailferry.cursor
  IN ACCESS EXCLUSIVE MODE;
ALTER TABLE mailferry.message RENAME TO item;
DROP INDEX mailferry.message_arrival;
ALTER TABLE mailferry.item DROP CONSTRAINT message_ledger_folder_protocol_uidvalidity_uid_uidl_key;
-- All in one, so that the table is written once.
ALTER TABLE mailferry.item ADD COLUMN kind TEXT NOT NULL DEFAULT 'Mail', ADD COLUMN stored BYTEA,
  ALTER COLUMN uidvalidity TYPE TEXT COLLATE "C" USING CASE protocol WHEN 'POP3' THEN '' WHEN 'UNLISTED' THEN 'unlisted'
    ELSE uidvalidity::text END,
  ALTER COLUMN uid TYPE TEXT COLLATE "C" USING CASE uidl WHEN '' THEN lpad(uid::text, 10, '0') ELSE ':' || uidl END,
  ALTER COLUMN dst_uidvalidity TYPE TEXT COLLATE "C" USING dst_uidvalidity::text,
  ALTER COLUMN dst_uid TYPE TEXT COLLATE "C" USING lpad(dst_uid::text, 10, '0');
ALTER TABLE mailferry.item DROP COLUMN uidl;
ALTER TABLE mailferry.item RENAME COLUMN uidvalidity TO epoch;
ALTER TABLE mailferry.item RENAME COLUMN uid TO place;
ALTER TABLE mailferry.item RENAME COLUMN dst_uidvalidity TO dst_epoch;
ALTER TABLE mailferry.item RENAME COLUMN dst_uid TO dst_place;
ALTER INDEX mailferry.message_pkey RENAME TO item_pkey;
ALTER INDEX mailferry.message_open RENAME TO item_open;
ALTER TABLE mailferry.item ADD UNIQUE (ledger, folder, protocol, epoch, place);
CREATE INDEX item_arrival ON mailferry.item (ledger, dst_folder, dst_epoch, dst_place)
  WHERE dst_place IS NOT NULL;
CREATE VIEW mailferry.message AS SELECT ledger, id, protocol, folder,
  CASE WHEN epoch ~ '^[0-9]+$' THEN epoch::bigint ELSE 0 END AS uidvalidity,
  CASE WHEN place LIKE ':%' THEN 0 ELSE place::bigint END AS uid,
  CASE WHEN place LIKE ':%' THEN substr(place, 2) ELSE '' END AS uidl,
  size, date, date_offset, flags, exact, canonical, message_id, subject, dst_folder,
  CASE WHEN dst_epoch ~ '^[0-9]+$' THEN dst_epoch::bigint END AS dst_uidvalidity,
  CASE WHEN dst_place NOT LIKE ':%' THEN dst_place::bigint END AS dst_uid,
  verdict, reason, gone, code, bound, attempts, announced FROM mailferry.item;
ALTER TABLE mailferry.intent ADD COLUMN mark TEXT, ALTER COLUMN uidvalidity TYPE TEXT USING uidvalidity::text;
UPDATE mailferry.intent SET mark = CASE WHEN uidnext > 1 THEN uidnext::text END;
ALTER TABLE mailferry.intent DROP COLUMN uidnext;
ALTER TABLE mailferry.intent RENAME COLUMN uidvalidity TO epoch;
ALTER TABLE mailferry.foreign_message
  ALTER COLUMN uidvalidity TYPE TEXT COLLATE "C" USING uidvalidity::text,
  ALTER COLUMN uid TYPE TEXT COLLATE "C" USING lpad(uid::text, 10, '0');
ALTER TABLE mailferry.foreign_message RENAME COLUMN uidvalidity TO epoch;
ALTER TABLE mailferry.foreign_message RENAME COLUMN uid TO place;
-- A mark of IMAP: UIDNEXT, and behind a blank the modseq; a hyphen where the server told no UIDNEXT. UIDVALIDITY 0 was that of
-- servers that have none.
ALTER TABLE mailferry.cursor ADD COLUMN mark TEXT, ADD COLUMN proves BOOLEAN, ADD COLUMN dst_mark TEXT,
  ALTER COLUMN uidvalidity TYPE TEXT USING CASE uidvalidity WHEN 0 THEN '' ELSE uidvalidity::text END,
  ALTER COLUMN dst_uidvalidity TYPE TEXT USING CASE dst_uidvalidity WHEN 0 THEN '' ELSE dst_uidvalidity::text END;
UPDATE mailferry.cursor SET proves = modseq IS NOT NULL, dst_mark = CASE WHEN dst_scanned > 1 THEN dst_scanned::text END,
  mark = CASE WHEN modseq IS NOT NULL THEN coalesce(uidnext::text, '-') || ' ' ||
    (CASE WHEN modseq < 0 THEN modseq::numeric + 18446744073709551616 ELSE modseq::numeric END)::text
    ELSE uidnext::text END;
ALTER TABLE mailferry.cursor ALTER COLUMN proves SET NOT NULL, DROP COLUMN uidnext, DROP COLUMN modseq, DROP COLUMN dst_scanned;
ALTER TABLE mailferry.cursor RENAME COLUMN uidvalidity TO epoch;
ALTER TABLE mailferry.cursor RENAME COLUMN dst_uidvalidity TO dst_epoch;
ALTER TABLE mailferry.cursor RENAME COLUMN messages TO items;
