-- Tables of a file of format 2 as those of today, for one who only looks: in the connection's own schema, the file stays as it
-- is.
CREATE TEMP VIEW item AS SELECT id, 'Mail' AS kind, protocol, folder,
  CASE protocol WHEN 'POP3' THEN '' WHEN 'UNLISTED' THEN 'unlisted' ELSE uidvalidity END AS epoch,
  CASE uidl WHEN '' THEN uid ELSE uidl END AS place, size, date, date_offset, flags, exact, canonical, message_id, subject,
  dst_folder, dst_uidvalidity AS dst_epoch, dst_uid AS dst_place, verdict, reason, gone,
  code, bound, attempts, announced, NULL AS stored FROM main.message;
CREATE TEMP VIEW intent AS SELECT id, folder, source, uidvalidity AS epoch,
  CASE WHEN uidnext > 1 THEN CAST(uidnext AS TEXT) END AS mark FROM main.intent;
CREATE TEMP VIEW foreign_message AS SELECT folder, uidvalidity AS epoch, uid AS place, exact, canonical, message_id
  FROM main.foreign_message;
CREATE TEMP VIEW cursor AS SELECT folder, CASE uidvalidity WHEN 0 THEN '' ELSE uidvalidity END AS epoch,
  CASE WHEN modseq IS NOT NULL THEN coalesce(uidnext, '-') || ' ' || CASE WHEN modseq < 0 THEN printf('%llu', modseq) ELSE modseq END
    WHEN uidnext IS NOT NULL THEN CAST(uidnext AS TEXT) END AS mark,
  messages AS items, modseq IS NOT NULL AS proves, CASE dst_uidvalidity WHEN 0 THEN '' ELSE dst_uidvalidity END AS dst_epoch,
  CASE WHEN dst_scanned > 1 THEN CAST(dst_scanned AS TEXT) END AS dst_mark, dst_folder FROM main.cursor;
