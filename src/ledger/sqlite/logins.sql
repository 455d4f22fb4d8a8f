-- Logins under way and refused, in a file for all migrations of a state directory. A change here is a new version in
-- file.rs.
CREATE TABLE login (
  key TEXT NOT NULL,
  at INTEGER NOT NULL,
  holder TEXT
);
CREATE INDEX login_key ON login (key);
CREATE TABLE login_salt (salt BLOB NOT NULL);
