//! Checks of a migration's credentials and lists, before anything is connected to.

use super::{Tools, check_one_login, source_login};
use crate::api::domain::Mailboxes;
use crate::local::lists::PlacedList;
use crate::local::validate::CheckedDomain;
use crate::model::address::Address;
use crate::model::failure::{Failure, Place, Side};
use crate::model::list::Row;
use crate::plan::unmatched;

impl Tools {
    /// The faults at the destination and of the ledger, for every domain.
    pub(in crate::local) fn check_common(&self) -> Vec<Failure> {
        let wanted = &self.spec().destination;
        let field = |name: &str| self.place(&format!("spec.destination.{}.{name}", wanted.key()));
        let mut found: Vec<Failure> = self.check_ledger_at().into_iter().collect();
        found.extend(self.check_host(&wanted.endpoint().host, || field("host")));
        if let Some(files) = wanted.files() {
            let directory = self.secrets.directory(&self.migration, files, Side::Destination);
            found.extend(directory.err().map(|failure| failure.at(self.place("spec.destination.files"))));
            return found;
        }
        let refused = self.check_rows(self.destination_secret(), || field("credentialsRef.name"));
        if !refused.is_empty() {
            found.extend(refused);
            return found;
        }
        match self.trust(wanted.ca()) {
            Ok(trust) => {
                let refused = self.destination_credentials(&trust).err();
                found.extend(refused.map(|failure| failure.at(field("credentialsRef.name"))));
            }
            Err(failure) => found.push(failure.at(field("caRef"))),
        }
        found
    }

    /// A server that is named by an address which the policy does not let us connect to; names are asked for later.
    fn check_host(&self, host: &str, field: impl Fn() -> String) -> Option<Failure> {
        let address = host.parse().ok()?;
        self.network.vet(host, address).err().map(|failure| failure.at(field()))
    }

    fn check_ledger_at(&self) -> Option<Failure> {
        let failure = self.check_ledger()?;
        Some(failure.at(self.place("spec.ledger.postgres.credentialsRef.name")))
    }

    /// The rows that cannot stand in the list of a Secret, each with its own remedy.
    fn check_rows(&self, secret: &str, field: impl Fn() -> String) -> Vec<Failure> {
        let listed = self.secrets.list(self.namespace(), secret, &self.spec().heads());
        let failures = listed.err().map(|unread| unread.failures).unwrap_or_default();
        failures.into_iter().map(|failure| failure.at(field())).collect()
    }

    /// The faults of a domain, and the mailboxes that would be carried. `with_destination` says that the destination's own references are whole.
    pub(in crate::local) fn check_domain(&self, at: usize, with_destination: bool) -> CheckedDomain {
        let mut found = CheckedDomain::default();
        let domain = &self.spec().domains[at];
        let hosts = domain.servers.iter().enumerate().filter_map(|(server, named)| {
            self.check_host(&named.host, || self.place_in(at, &format!(".servers[{server}].host")))
        });
        found.errors.extend(hosts);
        let listed = match self.list_all(at) {
            Ok(listed) => listed,
            Err(unlisted) => {
                found.errors.extend(unlisted.failures);
                found.warnings = unlisted.left_out;
                return found;
            }
        };
        found.warnings = listed.left_out;
        found.warnings.extend(unmatched::overrides(domain, &listed.mailboxes));
        (found.mailboxes, found.is_listed) = (listed.mailboxes, true);
        found.lists =
            self.lists_of(at).iter().map(|list| (list.place.name.clone(), list.list.form())).collect();
        let secret = self.source_secret(at);
        let field = || self.place_in(at, ".mailboxes");
        if found.mailboxes.is_empty() {
            found.errors.push(super::domain::none_named().at(field()));
        }
        if let Some(files) = &domain.files {
            let directory = self.secrets.directory(&self.migration, files, Side::Source);
            found.errors.extend(directory.err().map(|failure| failure.at(self.place_in(at, ".files"))));
            if with_destination {
                found.errors.extend(self.check_destination_of(&found, at));
            }
            return found;
        }
        let refused = self.check_rows(secret, || self.place_in(at, ".credentialsRef.name"));
        if !refused.is_empty() {
            found.errors.extend(refused);
            return found;
        }
        let credentials = match self
            .source_trust(at)
            .and_then(|trust| self.credentials(at, &trust).at(|| self.place_in(at, ".credentialsRef.name")))
        {
            Ok(credentials) => credentials,
            Err(failure) => {
                found.errors.push(failure);
                return found;
            }
        };
        let sources = found.mailboxes.iter().map(|planned| &planned.source);
        found.errors.extend(check_one_login(&credentials, secret, sources).at(field).err());
        let lacks =
            |planned: &&crate::plan::mailboxes::PlannedMailbox| source_login(&credentials, planned).is_none();
        let without: Vec<&Address> =
            found.mailboxes.iter().filter(lacks).map(|planned| &planned.source).collect();
        found.errors.extend(without.into_iter().map(|mailbox| {
            Failure::configuration(format!("Secret \"{secret}\" has no password for {mailbox}"))
                .hint("add a row to its mailboxes.csv, or take the mailbox out of the list")
                .at(field())
        }));
        if with_destination {
            let refused = self.check_destination_of(&found, at);
            found.errors.extend(refused);
        }
        found
    }

    /// The lists that a domain is read from.
    fn lists_of(&self, at: usize) -> Vec<PlacedList> {
        let domain = &self.spec().domains[at];
        let heads = self.spec().heads();
        let config = match &domain.mailboxes {
            Mailboxes::ConfigMapRef(wanted) => {
                self.secrets.config_list(self.namespace(), &wanted.name, &wanted.key, &heads).ok()
            }
            Mailboxes::List(_) | Mailboxes::Discover(_) => None,
        };
        config.into_iter().chain(self.secret_list(at)).collect()
    }

    /// The mailboxes that nothing opens at the destination.
    fn check_destination_of(&self, domain: &CheckedDomain, at: usize) -> Vec<Failure> {
        let wanted = &self.spec().destination;
        let name = self.destination_secret();
        // A fault of the Secret is told once, for all.
        let credentials = self.trust(wanted.ca()).and_then(|trust| self.destination_credentials(&trust));
        let Ok(credentials) = credentials else { return Vec::new() };
        let destinations = domain.mailboxes.iter().map(|planned| &planned.destination);
        let one = check_one_login(&credentials, name, destinations);
        let one = one.at(|| self.place(&format!("spec.destination.{}.credentialsRef.name", wanted.key())));
        let own = self.secret_list(at).filter(|_| self.source_secret(at) != name);
        let opened = |planned: &&crate::plan::mailboxes::PlannedMailbox| {
            let row = own.as_ref().and_then(|own| own.list.find(&planned.source));
            let row = row.filter(|row| row.destination.as_ref().is_none_or(|to| *to == planned.destination));
            row.is_some_and(|row: &Row| row.destination_password.is_some())
                || credentials.login_at_destination(&planned.destination, Some(&planned.source)).is_some()
        };
        let without = domain.mailboxes.iter().filter(|planned| !opened(planned)).map(|planned| {
            Failure::configuration(format!("Secret \"{name}\" has no password for {}", planned.destination))
                .hint("add a row to its mailboxes.csv, or a column destinationPassword to the list of the source")
                .at(self.place_in(at, ".mailboxes"))
        });
        one.err().into_iter().chain(without).collect()
    }
}
