SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
CREATE SCHEMA mailferry;
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE mailferry.cursor (
    ledger bigint NOT NULL,
    folder text NOT NULL COLLATE pg_catalog."C",
    uidvalidity bigint NOT NULL,
    uidnext bigint,
    messages bigint,
    modseq bigint,
    dst_uidvalidity bigint NOT NULL,
    dst_scanned bigint NOT NULL,
    dst_folder text
);
CREATE TABLE mailferry.fact (
    ledger bigint NOT NULL,
    name text NOT NULL,
    value text NOT NULL
);
CREATE TABLE mailferry.foreign_message (
    ledger bigint NOT NULL,
    folder text NOT NULL COLLATE pg_catalog."C",
    uidvalidity bigint NOT NULL,
    uid bigint NOT NULL,
    exact bytea NOT NULL,
    canonical bytea NOT NULL,
    message_id text
);
CREATE TABLE mailferry.format (
    version integer NOT NULL
);
CREATE TABLE mailferry.intent (
    ledger bigint NOT NULL,
    id bigint NOT NULL,
    folder text NOT NULL,
    uidvalidity bigint NOT NULL,
    uidnext bigint NOT NULL,
    source text DEFAULT '[]'::text NOT NULL
);
CREATE TABLE mailferry.intent_message (
    ledger bigint NOT NULL,
    intent bigint NOT NULL,
    message bigint NOT NULL
);
CREATE TABLE mailferry.ledger (
    id bigint NOT NULL,
    scope text NOT NULL,
    mailbox text NOT NULL,
    last_row bigint DEFAULT 0 NOT NULL
);
ALTER TABLE mailferry.ledger ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME mailferry.ledger_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE mailferry.login (
    key text NOT NULL,
    at bigint NOT NULL,
    holder text
);
CREATE TABLE mailferry.login_salt (
    salt bytea NOT NULL
);
CREATE TABLE mailferry.message (
    ledger bigint NOT NULL,
    id bigint NOT NULL,
    protocol text NOT NULL,
    folder text NOT NULL COLLATE pg_catalog."C",
    uidvalidity bigint NOT NULL,
    uid bigint NOT NULL,
    uidl text NOT NULL COLLATE pg_catalog."C",
    size bigint NOT NULL,
    date bigint,
    date_offset integer,
    flags text NOT NULL,
    exact bytea,
    canonical bytea,
    message_id text,
    subject text,
    dst_folder text COLLATE pg_catalog."C",
    dst_uidvalidity bigint,
    dst_uid bigint,
    verdict text NOT NULL,
    reason text,
    gone boolean DEFAULT false NOT NULL,
    code text,
    bound bigint,
    attempts bigint DEFAULT 0 NOT NULL,
    announced bigint
);
INSERT INTO mailferry.cursor VALUES
	(2, '["Sent"]', 1796061804, 3, 2, 2, 1796061809, 1, '["Sent"]'),
	(2, '["Entwürfe & Pläne"]', 1796061807, 2, 1, 2, 1796061808, 1, '["Entwürfe & Pläne"]'),
	(2, '["\"quoted\" 100% [x]"]', 1796061808, 2, 1, 2, 1796061806, 1, '["\"quoted\" 100% [x]"]'),
	(2, '["日本語","тест"]', 1796061809, 2, 1, 3, 1796061811, 1, '["日本語","тест"]'),
	(2, '["Empty"]', 1796061810, 1, 0, 1, 1796061807, 1, '["Empty"]'),
	(1, '["INBOX"]', 0, NULL, 3, NULL, 1796061808, 1, '["INBOX"]'),
	(2, '["Archive","2019"]', 1796061805, 5, 3, 5, 1796061810, 1, '["Archive","2019"]'),
	(2, '["INBOX"]', 1796061806, 8, 7, 3, 1796061805, 7, '["INBOX"]');
INSERT INTO mailferry.fact VALUES
	(1, 'source', '127.0.0.1:34443 as paul@pop.test: paul@pop.test'),
	(2, 'source', '127.0.0.1:42315 as anna@old.test: anna@old.test'),
	(1, 'destination', '127.0.0.1:39611 as paul@new.test*admin: paul@new.test'),
	(2, 'destination', '127.0.0.1:39611 as anna@new.test*admin: anna@new.test'),
	(1, 'folderNames', '[{"from":["INBOX"],"to":["INBOX"],"wanted":["INBOX"]}]'),
	(2, 'folderNames', '[{"from":["\"quoted\" 100% [x]"],"to":["\"quoted\" 100% [x]"],"wanted":["\"quoted\" 100% [x]"],"made":true},{"from":["Archive","2019"],"to":["Archive","2019"],"wanted":["Archive","2019"],"made":true},{"from":["Empty"],"to":["Empty"],"wanted":["Empty"],"made":true},{"from":["Entwürfe & Pläne"],"to":["Entwürfe & Pläne"],"wanted":["Entwürfe & Pläne"],"made":true},{"from":["INBOX"],"to":["INBOX"],"wanted":["INBOX"]},{"from":["Sent"],"to":["Sent"],"wanted":["Sent"],"made":true},{"from":["日本語","тест"],"to":["日本語","тест"],"wanted":["日本語","тест"],"made":true}]'),
	(1, 'bytesSent', '891'),
	(1, 'sizesChecked', '3'),
	(1, 'sent INBOX', '{"uidvalidity":1796061808,"rows":[1,2,3]}'),
	(1, 'inbox', '127.0.0.1:39611 1796061808'),
	(1, 'rules', 'max=20000 since='),
	(2, 'sent Sent', '{"uidvalidity":1796061809,"rows":[12,13]}'),
	(2, 'sent Archive/2019', '{"uidvalidity":1796061810,"rows":[8,9,10,11]}'),
	(2, 'sent INBOX', '{"uidvalidity":1796061805,"rows":[1,2,3,4,5]}'),
	(2, 'markedForRemoval', '1'),
	(2, 'sent Entwürfe & Pläne', '{"uidvalidity":1796061808,"rows":[14]}'),
	(2, 'sent "quoted" 100% [x]', '{"uidvalidity":1796061806,"rows":[15]}'),
	(2, 'bytesSent', '4253'),
	(2, 'sizesChecked', '14'),
	(2, 'sent 日本語/тест', '{"uidvalidity":1796061811,"rows":[16]}'),
	(2, 'inbox', '127.0.0.1:39611 1796061805'),
	(2, 'rules', 'max=20000 since=');
INSERT INTO mailferry.foreign_message VALUES
	(2, '["INBOX"]', 1796061805, 1, '\xf6b20c7f2b2750e82a50a1c1cb2d979d70a633551192fcb39155fe93c5b7ee04', '\xcc1e89313940d6b9fbc09fb2f53c99d80017c9a6029ac7204aeb0728e46fe238', '0833fa152cbf@old.test');
INSERT INTO mailferry.format VALUES
	(2);
INSERT INTO mailferry.intent VALUES
	(2, 1, '["INBOX"]', 1796061805, 7, '["INBOX"]'),
	(2, 2, '["Sent"]', 1796061809, 3, '["Sent"]');
INSERT INTO mailferry.intent_message VALUES
	(2, 1, 17),
	(2, 1, 18),
	(2, 1, 19),
	(2, 1, 20),
	(2, 2, 21);
INSERT INTO mailferry.ledger OVERRIDING SYSTEM VALUE VALUES
	(1, 'test/move', 'move-paul-9f4d3695', 3),
	(2, 'test/move', 'move-anna-7c7c18e7', 21);
INSERT INTO mailferry.login VALUES
	('5e4dff23aa3184bc', 1796061900604, NULL),
	('d479f02b891cbb2b', 1796061901265, NULL);
INSERT INTO mailferry.login_salt VALUES
	('\x23d92d6363280239661f086ed5d0ae55167472fb63d21e234c6dfc142b024a8c');
INSERT INTO mailferry.message VALUES
	(1, 1, 'POP3', '["INBOX"]', 0, 0, '000000016b0dba6d', 297, 1551424542, 60, '', '\x6a213c02205abad2a515bbdaede2f27c3cc107be7efeafb17b02aca308fc5d75', '\xc390db43e5f18449008f3aab945d1f752831a21eb216942c67c83c19008f4934', '6e42288a3364@old.test', 'popped 1', '["INBOX"]', 1796061808, 1, 'Delivered', NULL, false, NULL, NULL, 0, 297),
	(1, 2, 'POP3', '["INBOX"]', 0, 0, '000000026b0dba6d', 297, 1551510942, 60, '', '\xbcef381cab6f4e50768298972a24bea2516a060cb3b967b975be6b458d38324b', '\x91b799e909412c9cd329ee245a72ef6e08aa293d098694e847050ad92c1097f4', 'c6734cb45afd@old.test', 'popped 2', '["INBOX"]', 1796061808, 2, 'Delivered', NULL, false, NULL, NULL, 0, 297),
	(1, 3, 'POP3', '["INBOX"]', 0, 0, '000000036b0dba6d', 297, 1551597342, 60, '', '\x1fe2694fd202a256bbf7cdfa0c7cbdedfa0c94b9d66ad8d1862641553e29eded', '\x2c28a252250c8ded53e82d09e2a234a623c67ce8841f54b3c969782aab84f475', '331918bfb598@old.test', 'popped 3', '["INBOX"]', 1796061808, 3, 'Delivered', NULL, false, NULL, NULL, 0, 297),
	(2, 6, 'IMAP', '["INBOX"]', 1796061806, 6, '', 29990, 1552461342, 0, '', NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'Excluded', 'larger than the limit of 20.0 kB that the project set', false, NULL, NULL, 0, 29990),
	(2, 12, 'IMAP', '["Sent"]', 1796061804, 1, '', 293, 1553238942, 0, '\Seen', '\x270cc72553b138b6009742515e1fd394265079d6804d761a92908dde01341b44', '\x068ade1410f3b76194e8480e075ee7c61cf22566622b5847e3ceca59b41a22fe', '4d1938d278ed@old.test', 'sent', '["Sent"]', 1796061809, 1, 'Delivered', NULL, false, NULL, NULL, 0, 293),
	(2, 13, 'IMAP', '["Sent"]', 1796061804, 2, '', 291, 1552720542, 0, '\Seen', '\x275b12f4b3f1bc6df355013c8ff61f291347037f8a65f8ce24aa2998100b0b13', '\x2565b0533002831284e8339234e16f06197f1a16da124845bb8331d9909221d8', 'd33fb48ab5ad@old.test', 'one', '["Sent"]', 1796061809, 2, 'Delivered', NULL, false, NULL, NULL, 0, 291),
	(2, 8, 'IMAP', '["Archive","2019"]', 1796061805, 1, '', 282, 1551683742, 0, 'to-do', '\xdb396e9f2eacf467b1bc060430ee119dc2841fb4804174eabac5f9986fd9ebf7', '\x87be4c0a0249c616726d4b82b06b283813516ca58c488732c82968c1911783ea', '3bd739a8bfa6@old.test', 'archived', '["Archive","2019"]', 1796061810, 1, 'Delivered', NULL, false, NULL, NULL, 0, 282),
	(2, 1, 'IMAP', '["INBOX"]', 1796061806, 1, '', 291, 1552720542, 0, '\Seen', '\x275b12f4b3f1bc6df355013c8ff61f291347037f8a65f8ce24aa2998100b0b13', '\x2565b0533002831284e8339234e16f06197f1a16da124845bb8331d9909221d8', 'd33fb48ab5ad@old.test', 'one', '["INBOX"]', 1796061805, 2, 'Delivered', NULL, false, NULL, NULL, 0, 291),
	(2, 2, 'IMAP', '["INBOX"]', 1796061806, 2, '', 388, 1551856542, 0, '$Label1 \Flagged', '\xa7c4c69a29b5e0102714a83a49933abdd45cd4e39662df53ebf4b8f54dd82299', '\xa626847b69803657b94ae47b3a5506fe9f9647806732838d13703a81b294e84b', '3d88b54dd729@old.test', 'twin', '["INBOX"]', 1796061805, 3, 'Delivered', NULL, false, NULL, NULL, 0, 388),
	(2, 3, 'IMAP', '["INBOX"]', 1796061806, 3, '', 388, 1551856542, 0, '$Label1 \Flagged', '\xa7c4c69a29b5e0102714a83a49933abdd45cd4e39662df53ebf4b8f54dd82299', '\xa626847b69803657b94ae47b3a5506fe9f9647806732838d13703a81b294e84b', '3d88b54dd729@old.test', 'twin', '["INBOX"]', 1796061805, 4, 'Delivered', NULL, false, NULL, NULL, 0, 388),
	(2, 4, 'IMAP', '["INBOX"]', 1796061806, 4, '', 282, 1552461342, 0, '', '\x3858a36d2bd7d65d5d77b59a748f1f7eb072ad3438b50372cbe40d4ba341ddbf', '\xfff63d1343eff89deb1b0f614e5f9e33862b947a2394ee61b9153bbe310fd618', '98d414430110@old.test', 'Grüße', '["INBOX"]', 1796061805, 5, 'Delivered', NULL, false, NULL, NULL, 0, 282),
	(2, 5, 'IMAP', '["INBOX"]', 1796061806, 5, '', 285, 1553152542, 0, '\Answered \Seen', '\x8a1b7af1a3ffb6e16ab34f2dbcd96f74815116108dd230ec34d8cf21299f7115', '\x960711963d2e8dd9e19a6f79d374efc39cc6e78e1bbe694670c5a9849b7fd26b', NULL, 'anonymous', '["INBOX"]', 1796061805, 6, 'Delivered', NULL, false, NULL, NULL, 0, 285),
	(2, 14, 'IMAP', '["Entwürfe & Pläne"]', 1796061807, 1, '', 293, 1552547742, 0, '\Draft', '\x3a650ccaeac0d7a7dfac6b6dc48bff065c65a53719fdadec2ee60d6a581c0b1f', '\xf581df491450d415466c23dbf71cd927c4e8cf648b7878e7dc0c91080b918f91', '29fde71e3ef2@old.test', 'plan', '["Entwürfe & Pläne"]', 1796061808, 1, 'Delivered', NULL, false, NULL, NULL, 0, 293),
	(2, 15, 'IMAP', '["\"quoted\" 100% [x]"]', 1796061808, 1, '', 291, 1551856542, 0, '\Deleted', '\x1c9737f993f54edba8a964061fe769366b32aa956905995307cf798e17a42b42', '\xb56327295af03b5b2c8df46488f283ca9a9f17d9796ac04e1a95d4e642b5cf9f', '59451e88655d@old.test', 'odd', '["\"quoted\" 100% [x]"]', 1796061806, 1, 'Delivered', NULL, false, NULL, NULL, 0, 291),
	(2, 16, 'IMAP', '["日本語","тест"]', 1796061809, 1, '', 293, 1551942942, 0, '\Seen later', '\xed805c187634ba15227c48f843d83351d31595643d8917906ed2a21d77d0f776', '\x8498fdecedad884ce71a88c50836cb7f9ec09747ab68668dc954e13423359b5b', '767885516adb@old.test', 'deep', '["日本語","тест"]', 1796061811, 1, 'Delivered', NULL, false, NULL, NULL, 0, 293),
	(2, 10, 'IMAP', '["Archive","2019"]', 1796061805, 3, '', 292, 1552547742, 0, '', '\xb97c0a0ae20176d28422947067183123b458291c8eb87b7d84cd529ad5838138', '\xa4c6e371871b6b38df49db03f3676b8e18e1ff87ec8efdad1c2b18b7cb9f8c6a', 'd12aec3e4d67@old.test', 'removed there', NULL, NULL, NULL, 'Delivered', NULL, false, 'ArrivalMissing', NULL, 0, 292),
	(2, 9, 'IMAP', '["Archive","2019"]', 1796061805, 2, '', 292, 1551424542, 0, '', '\x534bdf6880314375e57166a09de75b2ff698458f0fcb658238c56d6f022b5391', '\x1a2045f01320ce754f19433b28e630fc1fd32b762ccf6c7db9d67d5427590d58', '8ca6c85f816f@old.test', 'removed later', '["Archive","2019"]', 1796061810, 2, 'Delivered', NULL, true, NULL, NULL, 0, 292),
	(2, 11, 'IMAP', '["Archive","2019"]', 1796061805, 4, '', 292, 1552029342, 0, '', '\x32c7b08b9965fa8f065f9df843434e400e07c767832eb6b3c86841cec4b8472e', '\x0e32463685751ff7d9afd4e6c96425f3168d85108db391f677464e436c04e729', '07c8c652b41e@old.test', 'changed there', '["Archive","2019"]', 1796061810, 4, 'DeliveredAltered', 'found changed after it had arrived, by the verification of 2026-11-30: the destination holds other bytes than the source has, 292 as there', false, 'ArrivalChanged', NULL, 0, 292),
	(2, 7, 'IMAP', '["INBOX"]', 1796061806, 7, '', 14992, 1552202142, 0, '', '\xd43a508d04e2d16655a6bec97aa1ec6836e9095491387d163c2ceaae65b2afe7', '\x032cbb4f0e36c1b46ef7273e1e54a980846c2e3ea4307eea378f587e56a488be', '5d67258ffe7f@old.test', 'too large for the destination', NULL, NULL, NULL, 'Quarantined', 'refused APPEND: [LIMIT] Mail size is larger than the maximum size allowed by server configuration (0.001 + 0.000 secs).', false, 'TooLarge', NULL, 4, 14992),
	(2, 17, 'IMAP', '["INBOX"]', 1796061806, 8, '', 1990, 1552720542, 0, '\Seen', NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'Pending', NULL, false, NULL, NULL, 0, 1990),
	(2, 18, 'IMAP', '["INBOX"]', 1796061806, 9, '', 1990, 1553757342, 0, '$Label1', NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'Pending', NULL, false, NULL, NULL, 0, 1990),
	(2, 19, 'IMAP', '["INBOX"]', 1796061806, 10, '', 1994, 1552806942, 0, '', NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'Pending', NULL, false, NULL, NULL, 0, 1994),
	(2, 20, 'IMAP', '["INBOX"]', 1796061806, 11, '', 1992, 1552288542, 0, '', NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'Pending', NULL, false, NULL, NULL, 0, 1992),
	(2, 21, 'IMAP', '["Sent"]', 1796061804, 3, '', 286, 1551856542, 0, '\Seen', NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'Pending', NULL, false, NULL, NULL, 0, 286);
SELECT pg_catalog.setval('mailferry.ledger_id_seq', 8, true);
ALTER TABLE ONLY mailferry.cursor
    ADD CONSTRAINT cursor_pkey PRIMARY KEY (ledger, folder);
ALTER TABLE ONLY mailferry.fact
    ADD CONSTRAINT fact_pkey PRIMARY KEY (ledger, name);
ALTER TABLE ONLY mailferry.foreign_message
    ADD CONSTRAINT foreign_message_pkey PRIMARY KEY (ledger, folder, uidvalidity, uid);
ALTER TABLE ONLY mailferry.intent_message
    ADD CONSTRAINT intent_message_pkey PRIMARY KEY (ledger, intent, message);
ALTER TABLE ONLY mailferry.intent
    ADD CONSTRAINT intent_pkey PRIMARY KEY (ledger, id);
ALTER TABLE ONLY mailferry.ledger
    ADD CONSTRAINT ledger_pkey PRIMARY KEY (id);
ALTER TABLE ONLY mailferry.ledger
    ADD CONSTRAINT ledger_scope_mailbox_key UNIQUE (scope, mailbox);
ALTER TABLE ONLY mailferry.message
    ADD CONSTRAINT message_ledger_folder_protocol_uidvalidity_uid_uidl_key UNIQUE (ledger, folder, protocol, uidvalidity, uid, uidl);
ALTER TABLE ONLY mailferry.message
    ADD CONSTRAINT message_pkey PRIMARY KEY (ledger, id);
CREATE INDEX login_key ON mailferry.login USING btree (key);
CREATE INDEX message_arrival ON mailferry.message USING btree (ledger, dst_folder, dst_uidvalidity, dst_uid) WHERE (dst_uid IS NOT NULL);
CREATE INDEX message_open ON mailferry.message USING btree (ledger, folder, id) WHERE ((verdict = ANY (ARRAY['Pending'::text, 'Quarantined'::text])) AND (NOT gone));
ALTER TABLE ONLY mailferry.cursor
    ADD CONSTRAINT cursor_ledger_fkey FOREIGN KEY (ledger) REFERENCES mailferry.ledger(id) ON DELETE CASCADE;
ALTER TABLE ONLY mailferry.fact
    ADD CONSTRAINT fact_ledger_fkey FOREIGN KEY (ledger) REFERENCES mailferry.ledger(id) ON DELETE CASCADE;
ALTER TABLE ONLY mailferry.foreign_message
    ADD CONSTRAINT foreign_message_ledger_fkey FOREIGN KEY (ledger) REFERENCES mailferry.ledger(id) ON DELETE CASCADE;
ALTER TABLE ONLY mailferry.intent
    ADD CONSTRAINT intent_ledger_fkey FOREIGN KEY (ledger) REFERENCES mailferry.ledger(id) ON DELETE CASCADE;
ALTER TABLE ONLY mailferry.intent_message
    ADD CONSTRAINT intent_message_ledger_intent_fkey FOREIGN KEY (ledger, intent) REFERENCES mailferry.intent(ledger, id) ON DELETE CASCADE;
ALTER TABLE ONLY mailferry.message
    ADD CONSTRAINT message_ledger_fkey FOREIGN KEY (ledger) REFERENCES mailferry.ledger(id) ON DELETE CASCADE;
