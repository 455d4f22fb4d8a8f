//! `mailferry init`: a first manifest. A value that was not given is asked for on a terminal; elsewhere the missing
//! option is named.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufRead, IsTerminal, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use super::{AUTHORITY, print, private, tell_note, to_json};
use crate::api::first::{First, Opened, Place, VARIABLES};
use crate::api::manifest;
use crate::cli::{InitArgs, Output};
use crate::local::lists::{ListPlace, join, refuse};
use crate::local::terminal::{LogOutput, shows_progress};
use crate::model::address::Address;
use crate::model::endpoint::is_public;
use crate::model::failure::{Failure, Result};
use crate::model::list::{Column, Heads, List, guess, sketch};
use crate::model::text::{counted, printable};

pub(super) fn init(args: &InitArgs) -> Result<ExitCode> {
    let is_terminal = io::stdin().is_terminal() && shows_progress();
    let (mut input, mut output) = (io::stdin().lock(), LogOutput);
    let mut person = Person(is_terminal.then_some((&mut input as _, &mut output as _)));
    let to_stdout = args.out == Path::new("-");
    if !to_stdout && args.out.exists() {
        return Err(Failure::configuration(format!("{}: is there already", args.out.display()))
            .hint("give another file with --out; nothing is overwritten"));
    }
    let made = make(args, &mut person)?;
    // The new manifest must be valid, or nothing is written.
    manifest::read(&[("the first manifest", made.first.text())])?;
    if to_stdout {
        print(&made.first.text())?;
        return Ok(ExitCode::SUCCESS);
    }
    write_new(&args.out, &made.first.text())?;
    let path = args.out.display().to_string();
    match args.output {
        Output::Json => print(&to_json(&json!({
            "manifest": path,
            "name": made.first.name,
            "list": made.first.list,
            "form": made.form,
            "domains": made.first.domains,
            "mailboxes": made.mailboxes,
            "columns": made.columns.iter().map(|(name, column)| json!({"name": name, "column": column.map(|c| c.to_string())})).collect::<Vec<_>>(),
            "variables": made.variables(),
        }))?)?,
        Output::Text => tell(&made, &path)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A first manifest, and what it was made from.
struct Made {
    first: First,
    mailboxes: usize,
    /// Each column of the list, and what it is read as.
    columns: Vec<(String, Option<Column>)>,
    form: Option<String>,
}

impl Made {
    /// The environment variables that the manifest reads passwords from.
    fn variables(&self) -> Vec<&'static str> {
        let variable = |opened: &Opened| match opened {
            Opened::ByList => None,
            Opened::ByAdmin { variable, .. } | Opened::ByItself { variable, .. } => Some(*variable),
        };
        [variable(&self.first.source), variable(&self.first.destination)].into_iter().flatten().collect()
    }
}

fn tell(made: &Made, path: &str) -> Result<()> {
    let mut text = String::new();
    let (domains, mailboxes) = (made.first.domains.len() as u64, made.mailboxes as u64);
    let _ = writeln!(
        text,
        "Wrote {path}: {}, {}",
        counted(domains, "domain", "domains"),
        counted(mailboxes, "mailbox", "mailboxes")
    );
    if let (Some(list), Some(form)) = (&made.first.list, &made.form) {
        let _ = writeln!(text, "  {} was read as {form}", printable(list));
    }
    for (name, column) in &made.columns {
        let _ = writeln!(text, "  \"{}\" is {}", printable(name), meaning(*column));
    }
    text.push_str("Next:\n");
    for variable in made.variables() {
        let _ = writeln!(
            text,
            "  read -rs {variable} && export {variable}    the password, without its being seen"
        );
    }
    let _ = write!(
        text,
        "  mailferry validate -f {path}\n  mailferry run -f {path} --state ./state --stage Plan    look and report, write nothing\n  \
         mailferry run -f {path} --state ./state --stage Sync    copy\n\
         Before that: {}.\n",
        before(&made.first)
    );
    print(&text)
}

/// The settings that servers inside a private network need beside their names, but for those that the manifest has already.
fn before(first: &First) -> String {
    let is_named = |place: &Place| place.host.parse::<IpAddr>().is_ok();
    if first.server.iter().chain([&first.goes_to]).all(is_named) && first.server.is_some() {
        return AUTHORITY.to_owned();
    }
    private(if first.allowed_networks.is_empty() { "" } else { "other " })
}

/// The meaning that a column is read with, for people.
fn meaning(column: Option<Column>) -> String {
    column.map_or_else(|| "not read".to_owned(), |column| column.to_string())
}

fn make(args: &InitArgs, person: &mut Person<'_>) -> Result<Made> {
    let (list, mailbox) = match (&args.from, &args.mailbox) {
        (Some(list), _) => (Some(list.clone()), None),
        (None, Some(mailbox)) => (None, Some(mailbox.clone())),
        (None, None) => {
            let missing = "--from LIST or --mailbox ADDRESS";
            let what =
                person.wanted("List of mailboxes (a CSV file), or one address to begin with", missing)?;
            match what.parse::<Address>() {
                Ok(mailbox) if !Path::new(&what).exists() => (None, Some(mailbox)),
                _ => (Some(PathBuf::from(what)), None),
            }
        }
    };
    let read = list.as_deref().map(|path| read_list(path, person)).transpose()?;
    let goes_to = if let Some(given) = &args.destination {
        given.clone()
    } else {
        let question = "IMAP server that the mail goes to (HOST or HOST:PORT)";
        place(&person.wanted(question, "--destination HOST")?)?
    };
    let server = if let Some(given) = &args.source {
        Some(given.clone())
    } else {
        let answer = person.ask("IMAP server that it comes from (leave it empty to have it found by DNS)")?;
        answer.filter(|answer| !answer.is_empty()).map(|answer| place(&answer)).transpose()?
    };
    let has = |column: Column| read.as_ref().is_some_and(|read| read.list.has(column));
    let own = mailbox.as_ref().map(ToString::to_string);
    let unread: Vec<&str> = read.iter().flat_map(ReadList::unread).collect();
    let source = opened(
        End {
            admin: args.source_admin.as_ref(),
            variable: VARIABLES[0],
            option: "--source-admin",
            side: "old",
        },
        has(Column::Password) || has(Column::RefreshToken),
        own.as_ref(),
        &unread,
        person,
    )?;
    let destination = opened(
        End {
            admin: args.destination_admin.as_ref(),
            variable: VARIABLES[1],
            option: "--destination-admin",
            side: "new",
        },
        has(Column::DestinationPassword),
        own.as_ref(),
        &unread,
        person,
    )?;
    let domains = match (&read, &mailbox) {
        (Some(read), _) => read.domains(),
        (None, Some(mailbox)) => vec![mailbox.domain().to_unicode()],
        (None, None) => Vec::new(),
    };
    let places = [Some(&goes_to), server.as_ref()];
    let mut allowed_networks: Vec<String> = Vec::new();
    for address in places.into_iter().flatten().filter_map(|place| place.host.parse().ok()) {
        let network = ipnet::IpNet::from(address).to_string();
        if !is_public(address) && !allowed_networks.contains(&network) {
            allowed_networks.push(network);
        }
    }
    let name =
        args.name.clone().unwrap_or_else(|| name_after(domains.first().map_or("mail", String::as_str)));
    let first = First {
        name,
        list: list.as_deref().map(|list| seen_from(&args.out, list)),
        columns: read.iter().flat_map(ReadList::given).collect(),
        domains,
        mailbox,
        source,
        server,
        destination,
        goes_to,
        allowed_networks,
    };
    Ok(Made {
        first,
        mailboxes: read.as_ref().map_or(1, |read| read.list.rows.len()),
        form: read.as_ref().map(|read| read.list.form()),
        columns: read.map(|read| read.columns).unwrap_or_default(),
    })
}

/// The person at the terminal; `None` elsewhere.
struct Person<'a>(Option<(&'a mut dyn BufRead, &'a mut dyn Write)>);

impl Person<'_> {
    /// The answer to a question, trimmed; `None` where nobody can be asked.
    fn ask(&mut self, question: &str) -> Result<Option<String>> {
        let Some((input, output)) = &mut self.0 else { return Ok(None) };
        let gone = |e: &io::Error| {
            Failure::configuration("nobody answers")
                .hint("give the options of mailferry init --help")
                .caused_by(e)
        };
        write!(output, "{question}: ").and_then(|()| output.flush()).map_err(|e| gone(&e))?;
        let mut answer = String::new();
        if input.read_line(&mut answer).map_err(|e| gone(&e))? == 0 {
            return Err(gone(&io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(Some(answer.trim().to_owned()))
    }

    /// The answer to a question that must have one; where nobody can be asked the option is named.
    fn wanted(&mut self, question: &str, option: &str) -> Result<String> {
        loop {
            match self.ask(question)? {
                Some(answer) if answer.is_empty() => {}
                Some(answer) => return Ok(answer),
                None => {
                    return Err(Failure::configuration(format!("{option} is missing"))
                        .hint("give it, or run it on a terminal, where it asks"));
                }
            }
        }
    }
}

fn place(text: &str) -> Result<Place> {
    text.parse().map_err(|hint: String| {
        Failure::configuration(format!("\"{}\" is no server", printable(text))).hint(hint)
    })
}

/// One end of the migration, as far as the command line tells.
#[derive(Clone, Copy)]
struct End<'a> {
    admin: Option<&'a String>,
    variable: &'static str,
    option: &'static str,
    side: &'static str,
}

/// How mailboxes are opened at an end.
/// `unread` are the columns of the list that nothing is read from: the password may stand in one of them.
fn opened(
    end: End<'_>,
    by_list: bool,
    own: Option<&String>,
    unread: &[&str],
    person: &mut Person<'_>,
) -> Result<Opened> {
    let End { variable, option, side, .. } = end;
    if let Some(user) = end.admin {
        return Ok(Opened::ByAdmin { user: user.clone(), variable });
    }
    if by_list {
        return Ok(Opened::ByList);
    }
    if let Some(user) = own {
        return Ok(Opened::ByItself { user: user.clone(), variable });
    }
    if person.0.is_none() {
        let column = if side == "old" { "password" } else { "destinationPassword" };
        let lacks = format!("the list has no column {column}, so nothing opens the {side} mailboxes");
        let names: Vec<String> = unread.iter().map(|name| format!("\"{}\"", printable(name))).collect();
        let (what, remedy) = match &names[..] {
            [] => (lacks, "add the column".to_owned()),
            [first, others @ ..] => (
                format!("{lacks}; nothing is read from {}", names.join(", ")),
                format!(
                    "if {first}{} holds them, call it {column} in line 1 of the list, or in a manifest of your own: spec.columns: \
                     {{{column}: [{first}]}}; else add the column",
                    if others.is_empty() { "" } else { " or another" }
                ),
            ),
        };
        return Err(Failure::configuration(what)
            .hint(format!("{remedy}, or name who may open every mailbox there: {option} USER")));
    }
    let question = format!("User who may open every mailbox at the {side} server");
    Ok(Opened::ByAdmin { user: person.wanted(&question, option)?, variable })
}

/// A list with what its columns mean.
struct ReadList {
    list: List,
    columns: Vec<(String, Option<Column>)>,
}

impl ReadList {
    /// The names of columns that a manifest must give.
    fn given(&self) -> impl Iterator<Item = (Column, String)> + '_ {
        let meant = self.columns.iter().filter_map(|(name, column)| Some(((*column)?, name.clone())));
        meant.filter(|(column, name)| !Heads::is_known(*column, name))
    }

    /// The names of columns that nothing is read from.
    fn unread(&self) -> impl Iterator<Item = &str> + '_ {
        self.columns.iter().filter(|(_, column)| column.is_none()).map(|(name, _)| name.as_str())
    }

    /// The domains of the addresses, in their order.
    fn domains(&self) -> Vec<String> {
        let mut domains: Vec<String> = Vec::new();
        for row in &self.list.rows {
            let domain = row.address.domain().to_unicode();
            if !domains.contains(&domain) {
                domains.push(domain);
            }
        }
        domains
    }
}

fn read_list(path: &Path, person: &mut Person<'_>) -> Result<ReadList> {
    let bytes = fs::read(path).map_err(|e| {
        Failure::configuration(format!("{}: cannot be read: {e}", path.display()))
            .hint("check the path of the list")
            .caused_by(&e)
    })?;
    let place = ListPlace::file(path.display().to_string());
    let sketch = join(sketch(&bytes).map_err(|refusal| refuse(&place, vec![refusal])))?;
    let guessed = guess(&sketch);
    let heads = Heads::new(
        guessed.iter().zip(&sketch.head).filter_map(|(column, name)| Some(((*column)?, vec![name.clone()]))),
    );
    let list = join(List::read(&bytes, &heads).map_err(|refused| refuse(&place, refused.refusals)))?;
    let named = |(name, column): (String, Option<Column>)| (!name.is_empty()).then_some((name, column));
    let columns: Vec<_> = sketch.head.into_iter().zip(guessed).filter_map(named).collect();
    if person.0.is_some() {
        for (name, column) in &columns {
            tell_note(&format!("column \"{}\" is {}", printable(name), meaning(*column)));
        }
        let answer = person.ask("Is that right? (y/n)")?.unwrap_or_default();
        if !answer.to_lowercase().starts_with(['y', 'j']) && !answer.is_empty() {
            return Err(Failure::configuration(format!("{}: its columns are others", path.display()))
                .hint("name them in the list as address, username, password, destination, destinationUsername, destinationPassword"));
        }
    }
    Ok(ReadList { list, columns })
}

/// The path of a list as the manifest that is written to `out` names it.
fn seen_from(out: &Path, list: &Path) -> String {
    let parent = |path: &Path| {
        fs::canonicalize(path.parent().filter(|p| *p != Path::new("")).unwrap_or(Path::new("."))).ok()
    };
    match (parent(out), parent(list), list.file_name()) {
        (Some(here), Some(there), Some(name)) if here == there => name.to_string_lossy().into_owned(),
        _ => fs::canonicalize(list).unwrap_or_else(|_| list.to_owned()).display().to_string(),
    }
}

/// A name that Kubernetes takes, after a domain.
fn name_after(domain: &str) -> String {
    let letters = domain.split('.').next().unwrap_or_default().to_lowercase();
    let name: String =
        letters.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(50).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "mail".to_owned() } else { name.to_owned() }
}

/// Writes a file that was not there.
fn write_new(path: &Path, text: &str) -> Result<()> {
    let unwritten = |e: &io::Error| {
        Failure::configuration(format!("{}: cannot be written: {e}", path.display()))
            .hint("give another file with --out")
            .caused_by(e)
    };
    let mut file = File::create_new(path).map_err(|e| unwritten(&e))?;
    file.write_all(text.as_bytes()).map_err(|e| unwritten(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(list: &Path) -> InitArgs {
        InitArgs {
            from: Some(list.to_owned()),
            mailbox: None,
            destination: None,
            destination_admin: None,
            source: None,
            source_admin: None,
            name: None,
            out: list.with_file_name("migration.yaml"),
            output: Output::Text,
        }
    }

    #[test]
    fn on_a_terminal_it_asks_for_what_is_missing_and_elsewhere_it_names_the_option() {
        let directory = tempfile::tempdir().unwrap();
        let list = directory.path().join("liste.csv");
        fs::write(&list, b"E-Mail-Adresse;Kennwort\r\nj\xf6rg@m\xfcnchen.example;stra\xdfe\r\n").unwrap();
        let (mut input, mut output) =
            ("y\n\nimap.new.example:143\n10.0.0.5\nmigration\n".as_bytes(), Vec::new());
        let made = make(&args(&list), &mut Person(Some((&mut input, &mut output)))).unwrap();
        let asked = String::from_utf8(output).unwrap();
        assert_eq!(asked.matches(": ").count(), 5, "{asked}");
        assert_eq!(made.first.domains, ["münchen.example"]);
        assert_eq!(
            made.first.columns,
            [(Column::Address, "E-Mail-Adresse".to_owned()), (Column::Password, "Kennwort".to_owned())]
        );
        assert_eq!((made.first.name.as_str(), made.variables()), ("m-nchen", vec![VARIABLES[1]]));
        assert_eq!(
            (&made.first.allowed_networks[..], made.first.list.as_deref()),
            (&["10.0.0.5/32".to_owned()][..], Some("liste.csv"))
        );
        manifest::read(&[("m.yaml", made.first.text())]).unwrap();
        let failure = make(&args(&list), &mut Person(None)).map(|_| ()).unwrap_err();
        assert_eq!(failure.what, "--destination HOST is missing");
        let admin = InitArgs { destination: Some("h.example".parse().unwrap()), ..args(&list) };
        let failure = make(&admin, &mut Person(None)).map(|_| ()).unwrap_err();
        assert!(
            failure.what.contains("destinationPassword")
                && failure.hint.unwrap().contains("--destination-admin")
        );
        // A column that nothing is read from may hold what is missing.
        fs::write(&list, "Name;Mailadresse;Losung;neues Postfach\r\nJ;j@a.test;x;k@b.test\r\n").unwrap();
        let failure = make(&admin, &mut Person(None)).map(|_| ()).unwrap_err();
        assert_eq!(
            failure.what,
            "the list has no column password, so nothing opens the old mailboxes; nothing is read from \"Name\", \"Losung\""
        );
        assert_eq!(
            failure.hint.unwrap(),
            "if \"Name\" or another holds them, call it password in line 1 of the list, or in a manifest of your own: spec.columns: \
             {password: [\"Name\"]}; else add the column, or name who may open every mailbox there: --source-admin USER"
        );
        fs::write(&list, "Name;Mailadresse;PW;neues Postfach\r\nJ;j@a.test;x;k@b.test\r\n").unwrap();
        let admin = InitArgs { destination_admin: Some("boss".to_owned()), ..admin };
        let made = make(&admin, &mut Person(None)).unwrap();
        assert_eq!(made.columns[2], ("PW".to_owned(), Some(Column::Password)));
        assert!(before(&made.first).starts_with("for servers with private addresses list their network"));
        let here = |text: &str| Some(text.parse().unwrap());
        let inside = InitArgs { destination: here("10.0.0.5"), ..admin };
        let made = make(&inside, &mut Person(None)).unwrap();
        assert!(before(&made.first).starts_with("for other servers"), "it may be that discovery finds some");
        let inside = InitArgs { source: here("10.0.0.6"), ..inside };
        assert_eq!(before(&make(&inside, &mut Person(None)).unwrap().first), AUTHORITY);
    }
}
