//! Mail in files: where they are, and how messages are written in them. As a source of a domain and as a destination alike.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::endpoint::Endpoint;
use crate::model::protocol::Protocol;

/// Mail in files. Each mailbox has a directory of its own, called as its address; at the source a mailbox that is alone in
/// its domain may be in the directory itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.path) != has(self.claimRef)").message("give exactly one of path (on a laptop) and claimRef (in a cluster)"))]
pub struct Files {
    /// How messages are written: Maildir (a file for each message, with its flags in its name; Maildir++), Mbox (a file for
    /// each folder, mboxrd) or Eml (a file for each message, as it came).
    pub format: FileFormat,
    /// A directory, on a laptop alone. A relative one begins at the file of the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub path: Option<String>,
    /// A volume claim of the namespace, in a cluster alone. It is mounted read-only where mail is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim_ref: Option<ClaimRef>,
}

/// How messages are written in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum FileFormat {
    /// A file for each message, with its flags in its name (Maildir++).
    Maildir,
    /// A file for each folder (RFC 4155, mboxrd).
    Mbox,
    /// A file for each message, as it came.
    Eml,
}

/// A volume claim of the namespace of the MailMigration.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimRef {
    /// Name of a PersistentVolumeClaim in the same namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// A directory in the volume, its names parted by /. Default: the volume itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^[^/]+(/[^/]+)*$"))]
    pub path: Option<String>,
}

impl From<FileFormat> for Protocol {
    fn from(format: FileFormat) -> Self {
        match format {
            FileFormat::Maildir => Self::Maildir,
            FileFormat::Mbox => Self::Mbox,
            FileFormat::Eml => Self::Eml,
        }
    }
}

impl Files {
    /// The place as the manifest names it: the same whoever reads it, and wherever a volume is mounted.
    pub fn endpoint(&self) -> Endpoint {
        let place = match (&self.claim_ref, &self.path) {
            (Some(claim), _) => match &claim.path {
                Some(path) => format!("claim {}/{path}", claim.name),
                None => format!("claim {}", claim.name),
            },
            (None, path) => path.clone().unwrap_or_default(),
        };
        Endpoint::files(self.format.into(), &place)
    }

    /// Whether a claim's directory leads out of the volume.
    pub fn leads_out(&self) -> bool {
        let path = self.claim_ref.iter().filter_map(|claim| claim.path.as_ref());
        path.flat_map(|path| path.split('/')).any(|name| name == ".." || name == ".")
    }
}

#[cfg(test)]
mod tests {
    use crate::api::manifest;
    use crate::api::rules::check_in_cluster;

    fn read(destination: &str, domain: &str) -> Result<manifest::Manifest, String> {
        let text = format!(
            "apiVersion: mailferry.dev/v1alpha1\nkind: MailMigration\nmetadata: {{name: m}}\nspec:\n  \
             destination: {{{destination}}}\n  domains:\n  - {{name: a.test, {domain}}}\n"
        );
        manifest::read(&[("m.yaml", text)]).map_err(|failure| failure.to_string())
    }

    const IMAP: &str = "imap: {host: imap.new.test, credentialsRef: {name: new}}";

    #[test]
    fn files_stand_in_the_place_of_servers_and_of_nothing_else() {
        for (destination, domain, wrong) in [
            (IMAP, "files: {format: Mbox, path: a}", ""),
            ("files: {format: Maildir, path: b}", "credentialsRef: {name: a}", ""),
            (IMAP, "files: {format: Eml, claimRef: {name: mail, path: a/b}}", ""),
            (IMAP, "files: {format: Eml}", "exactly one of path"),
            (IMAP, "files: {format: Eml, path: a, claimRef: {name: mail}}", "exactly one of path"),
            (IMAP, "files: {format: Mbox, path: a}, credentialsRef: {name: a}", "and not both"),
            (IMAP, "usernames: Address", "give credentialsRef"),
            (IMAP, "files: {format: Mbox, path: a}, caRef: {name: ca}", "servers, caRef and overrides"),
            (
                IMAP,
                "files: {format: Mbox, path: a}, servers: [{protocol: IMAP, host: a.test}]",
                "servers, caRef and overrides",
            ),
            (IMAP, "credentialsRef: {name: a}, servers: [{protocol: Maildir, host: a.test}]", "protocol"),
            (IMAP, "files: {format: Pst, path: a}", "format"),
            (IMAP, "files: {format: Mbox, claimRef: {name: mail, path: ../x}}", "leads out"),
            (IMAP, "files: {format: Mbox, claimRef: {name: mail, path: /x}}", "path"),
            (
                "files: {format: Mbox, path: a}, imap: {host: x, credentialsRef: {name: n}}",
                "credentialsRef: {name: a}",
                "name the destination",
            ),
        ] {
            match read(destination, domain) {
                Ok(_) => assert!(wrong.is_empty(), "{destination} {domain}: nothing is wrong"),
                Err(failure) => assert!(!wrong.is_empty() && failure.contains(wrong), "{domain}: {failure}"),
            }
        }
    }

    #[test]
    fn a_path_is_for_a_laptop_alone() {
        let read = |domain: &str| read("files: {format: Maildir, claimRef: {name: kept}}", domain).unwrap();
        let manifest = read("files: {format: Mbox, path: a}");
        let found = check_in_cluster(&manifest.migrations[0].spec);
        let told: Vec<String> = found.iter().map(|violation| violation.path.to_string()).collect();
        assert_eq!(told, ["spec.domains[0].files.path"]);
        assert!(found[0].hint.as_ref().is_some_and(|hint| hint.contains("claimRef")));
        let manifest = read("files: {format: Mbox, claimRef: {name: mail, path: a}}");
        let spec = &manifest.migrations[0].spec;
        assert!(check_in_cluster(spec).is_empty());
        let endpoint = spec.domains[0].files.as_ref().unwrap().endpoint();
        assert_eq!(endpoint.to_string(), "mbox in claim mail/a");
    }
}
