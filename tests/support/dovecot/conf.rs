//! The configuration that makes a [`Builder`] true: for Dovecot 2.3, and nothing read from the system's own.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::super::process;
use super::{Builder, MAIL_UID, Store, User};

const COMMON: &str = "\
auth_mechanisms = plain login
auth_master_user_separator = *
auth_failure_delay = 0
first_valid_uid = 1
mail_fsync = never
mail_max_userip_connections = 1000
default_vsz_limit = 1G
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
";

/// Without root no part can change its user or its root directory.
const UNPRIVILEGED: &str = "
service anvil {
  chroot =
}
service imap-login {
  chroot =
}
service pop3-login {
  chroot =
}
service stats {
  chroot =
}
";

/// The whole configuration of a server whose files lie in `root`.
pub fn text(spec: &Builder, listeners: &BTreeMap<&'static str, SocketAddr>, root: &Path) -> String {
    let dir = root.display();
    let mut conf = String::from(COMMON);
    let mut say = |line: String| {
        conf.push_str(&line);
        conf.push('\n');
    };
    say(format!("base_dir = {dir}/run\nstate_dir = {dir}/run\nlog_path = {dir}/dovecot.log"));
    say(format!("instance_name = {}", root.file_name().unwrap_or_default().display()));
    say("protocols = imap pop3".to_owned());
    say(format!("disable_plaintext_auth = {}", if spec.plaintext_auth { "no" } else { "yes" }));
    match &spec.tls {
        Some(files) => {
            let (certificate, key) = (files.chain.display(), files.key.display());
            say(format!("ssl = yes\nssl_cert = <{certificate}\nssl_key = <{key}"));
        }
        None => say("ssl = no".to_owned()),
    }
    if !process::is_root() {
        let (user, group) = (own_name("-un"), own_name("-gn"));
        say(format!(
            "default_internal_user = {user}\ndefault_login_user = {user}\ndefault_internal_group = {group}"
        ));
        say(UNPRIVILEGED.to_owned());
    }
    say(format!(
        "mail_location = {}",
        match spec.store {
            Store::Maildir => "maildir:~/Maildir",
            Store::MaildirFs => "maildir:~/Maildir:LAYOUT=fs",
            Store::Sdbox => "sdbox:~/sdbox",
            Store::Mbox => "mbox:~/mail:INBOX=~/inbox",
        }
    ));
    say(namespace(spec));
    say(plugins(spec));
    let rawlog = if spec.record_commands { format!("rawlog_dir = {dir}/rawlog/%u") } else { String::new() };
    let capability =
        spec.capability.as_deref().map_or_else(String::new, |all| format!("imap_capability = {all}"));
    let quota = if needs_quota(spec) { " imap_quota" } else { "" };
    let compression = if spec.compression { " imap_zlib" } else { "" };
    say(format!(
        "protocol imap {{\n{rawlog}\n{capability}\nmail_plugins = $mail_plugins{quota}{compression}\n}}"
    ));
    say(format!(
        "passdb {{\n driver = passwd-file\n args = {dir}/masters\n master = yes\n result_success = continue\n}}\n\
         passdb {{\n driver = passwd-file\n args = {dir}/passdb.%s\n}}\n\
         userdb {{\n driver = passwd-file\n args = {dir}/userdb\n}}"
    ));
    if let Some((password, quota)) = &spec.any_user {
        let owner = if process::is_root() { MAIL_UID.to_string() } else { own_name("-u") };
        let quota = quota.map_or_else(String::new, |bytes| format!(" quota_rule=*:storage={bytes}B"));
        say(format!(
            "passdb {{\n driver = static\n args = password={password}\n}}\n\
             userdb {{\n driver = static\n \
             args = uid={owner} gid={owner} home={dir}/data/%u allow_all_users=yes{quota}\n}}"
        ));
    }
    for service in ["imap", "pop3"] {
        say(format!("service {service}-login {{"));
        for (name, tls) in [(service.to_owned(), "no"), (format!("{service}s"), "yes")] {
            say(match listeners.get(name.as_str()) {
                Some(at) => format!(
                    "inet_listener {name} {{\n address = {}\n port = {}\n ssl = {tls}\n}}",
                    at.ip(),
                    at.port()
                ),
                None => format!("inet_listener {name} {{\n port = 0\n}}"),
            });
        }
        say("}".to_owned());
    }
    say(spec.extra.clone());
    conf
}

/// The name of the current user (`-un`) or group (`-gn`).
fn own_name(option: &str) -> String {
    let output = Command::new("id").arg(option).output().expect("id can be run");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn namespace(spec: &Builder) -> String {
    let mut text = format!(
        "namespace inbox {{\n inbox = yes\n separator = {}\n prefix = {}\n",
        spec.separator,
        quoted(&spec.prefix)
    );
    for (index, (folder, attribute)) in spec.special_use.iter().enumerate() {
        let _ = write!(
            text,
            " mailbox special{index} {{\n  name = {}\n  special_use = {attribute}\n  auto = subscribe\n }}\n",
            quoted(folder)
        );
    }
    text.push('}');
    text
}

fn needs_quota(spec: &Builder) -> bool {
    spec.max_message.is_some()
        || spec.any_user.as_ref().is_some_and(|(_, quota)| quota.is_some())
        || spec.users.iter().any(|user| user.quota.is_some())
}

fn plugins(spec: &Builder) -> String {
    let compression = if spec.compression { "mail_plugins = $mail_plugins zlib\n" } else { "" };
    if !needs_quota(spec) {
        return compression.to_owned();
    }
    let limit = spec.max_message.map_or_else(String::new, |bytes| format!("quota_max_mail_size = {bytes}B"));
    format!(
        "{compression}mail_plugins = $mail_plugins quota\nplugin {{\n quota = count:User quota\n quota_vsizes = yes\n \
         quota_grace = 0\n quota_rule = *:storage=0\n {limit}\n}}"
    )
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A line of a passwd-file that checks a password.
pub fn password_line(name: &str, password: &str) -> String {
    format!("{name}:{{PLAIN.b64}}{}::::::\n", BASE64_STANDARD.encode(password))
}

/// A line of a passwd-file that says where a mailbox lies.
pub fn user_line(user: &User, uid: u32, root: &Path) -> String {
    let home = root.join("data").join(user.home.as_ref().unwrap_or(&user.name));
    let quota = user.quota.map_or_else(String::new, |bytes| format!("userdb_quota_rule=*:storage={bytes}B"));
    format!("{}::{uid}:{uid}::{}::{quota}\n", user.name, home.display())
}
