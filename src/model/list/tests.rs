//! Lists as people write them.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Result<List, Vec<Refusal>> {
    List::read(text.as_bytes(), &Heads::default()).map_err(|refused| refused.refusals)
}

#[track_caller]
fn rows(text: &str) -> Vec<String> {
    let list = read(text).unwrap_or_else(|refusals| panic!("{refusals:#?}"));
    let secret = |secret: &Option<Secret>| secret.as_ref().map_or("-", Secret::expose).to_owned();
    let show = |row: &Row| {
        let (user, to) = (row.username.as_deref().unwrap_or("-"), &row.destination);
        let to = to.as_ref().map_or("-".to_owned(), ToString::to_string);
        format!("{} {} {user} {} {to}", row.line, row.address, secret(&row.password))
    };
    list.rows.iter().map(show).collect()
}

#[track_caller]
fn refused(text: &str) -> Vec<String> {
    let refusals = read(text).map(|list| list.rows.len()).unwrap_err();
    assert!(refusals.iter().all(|refusal| !refusal.hint.is_empty()), "{refusals:#?}");
    refusals
        .iter()
        .map(|refusal| {
            let other = refusal.other.map(|line| format!(" {line}")).unwrap_or_default();
            format!("{}: {}{other}", refusal.line, refusal.what)
        })
        .collect()
}

#[test]
fn what_spreadsheets_export_is_taken_with_true_line_numbers() {
    for (text, wanted) in [
        ("address,username,password\nbob@b.test,,\"a,b \"\n", "2 bob@b.test - a,b  -"),
        (
            "address;password;destination\r\n\r\n;;\r\nbob@b.test;a,b;bob@new.test\r\n",
            "4 bob@b.test - a,b bob@new.test",
        ),
        ("address\tpassword\n\n\nbob@b.test\ts;e,c\n", "4 bob@b.test - s;e,c -"),
        ("sep=;\r\naddress;password\r\nbob@b.test;x\r\n", "3 bob@b.test - x -"),
        ("address,password\rbob@b.test,x\r", "2 bob@b.test - x -"),
        ("EmailAddress,UserName,Password\nbob@b.test,bob,x\n", "2 bob@b.test bob x -"),
        ("\u{feff}address;password\nbob@b.test;\"a\"\"b;c\"\n", "2 bob@b.test - a\"b;c -"),
        ("Name;e-mail;Password\nBo, B.;bob@b.test;a\"b\n", "2 bob@b.test - a\"b -"),
        // Excel leaves the last cells of a row out where they are empty.
        ("address,password,username\nbob@b.test,x\n", "2 bob@b.test - x -"),
        ("address,password,,\nbob@b.test,x,,\n,,,\n", "2 bob@b.test - x -"),
        ("address,password\nbob@b.test,x", "2 bob@b.test - x -"),
    ] {
        assert_eq!(rows(text), [wanted], "{text:?}");
    }
    let windows = List::read(b"address;password\r\nbob@b.test;stra\xdfe\r\n", &Heads::default()).unwrap();
    assert_eq!(windows.rows[0].password.as_ref().unwrap().expose(), "straße");
    assert_eq!(windows.form(), "Windows-1252, cells parted by semicolons");
}

#[test]
fn a_row_that_cannot_be_told_for_sure_is_refused_by_line_and_every_one_at_once() {
    let quote = "begins with a quote that does not end on its line";
    for (text, wanted) in [
        (
            "address,password\na@a.test,\"secret\nb@a.test,x\n",
            &[format!("2: the cell under \"password\" {quote}")][..],
        ),
        (
            "address,password\r\n\r\na@a.test,x\r\nb@a.test,\"secret\r\n",
            &[format!("4: the cell under \"password\" {quote}")],
        ),
        (
            "address,password\na@a.test,\"x\"y\n",
            &["2: the cell under \"password\" has a quote in the wrong place".into()],
        ),
        // The quote of a later row ends no cell, and no row below is silenced.
        (
            "address,note\na@a.test,\"one\nb@a.test,\"two\nhans,x\n",
            &[
                format!("2: the cell under \"note\" {quote}"),
                format!("3: the cell under \"note\" {quote}"),
                "4: the cell under \"address\" is no mail address".into(),
            ],
        ),
        (
            "address,password\r\na@a.test,\"one\r\nb@a.test,two\"\r\n\r\nhans,x\r\nc@a.test,a,b\r\n",
            &[
                format!("2: the cell under \"password\" {quote}"),
                "5: the cell under \"address\" is no mail address".into(),
                "6: has 3 cells, and the first line names 2 columns".into(),
            ],
        ),
        // A cell that goes on over lines that are not rows is reported once.
        (
            "address,note,password\na@a.test,\"Room 1\nFloor 2\n\nHouse \"\"3\"\"\",x\nhans,,x\n",
            &[
                "2: the cell under \"note\" holds a line break".into(),
                "6: the cell under \"address\" is no mail address".into(),
            ],
        ),
        (
            "address,password\na@a.test,pa,ss\n",
            &["2: has 3 cells, and the first line names 2 columns".into()],
        ),
        ("address,password,\na@a.test,pa,ss\n", &["2: cell 3 stands in a column without a name".into()]),
        (
            "address;password\r\n\r\nanna;x\r\n;y\r\nb@a.test;z;\r\nB@A.test;1\r\nb@a.test;2\r\n",
            &[
                "3: the cell under \"address\" is no mail address".into(),
                "4: the cell under \"address\" is empty".into(),
                "5: has 3 cells, and the first line names 2 columns".into(),
                "7: lists a mailbox again and says something else of it than 6".into(),
            ],
        ),
        // Each cell of a row that cannot stand.
        (
            "address,password,destination,username\nmailto:a@a.test,x,b@b.test.,a\u{7}b\nSMTP:b@a.test,\"x\0y\",,\nc@a.test.,\"x\t\",,\n",
            &[
                "2: the cell under \"address\" has a prefix before the address, as in mailto: or SMTP:"
                    .into(),
                "2: the cell under \"username\" is no login name".into(),
                "2: the cell under \"destination\" ends with a dot, which no mail address does".into(),
                "3: the cell under \"address\" has a prefix before the address, as in mailto: or SMTP:"
                    .into(),
                "3: the cell under \"password\" holds a control character, such as NUL or a tab".into(),
                "4: the cell under \"address\" ends with a dot, which no mail address does".into(),
                "4: the cell under \"password\" holds a control character, such as NUL or a tab".into(),
            ],
        ),
    ] {
        assert_eq!(refused(text), wanted, "{text:?}");
    }
}

#[test]
fn a_first_line_that_does_not_fit_is_told_beside_the_rows() {
    let quote = "begins with a quote that does not end on its line";
    for (text, wanted) in [
        // A first line that is parted otherwise than the rows is told once, and a row each by itself.
        (
            "address,password\na@a.test;x\nb@a.test;y\nhans;z\n",
            &[
                "1: names its columns parted by commas, and the rows below it are parted by semicolons"
                    .into(),
                "4: the cell under \"address\" is no mail address".into(),
            ][..],
        ),
        (
            "address\na@a.test;x\nb@a.test;y\n",
            &["1: names 1 column, and the rows below it have several cells, parted by semicolons".into()],
        ),
        (
            "address;password\na@a.test;x\nb@a.test,y\n",
            &["3: is parted by commas, and the other lines by semicolons".into()],
        ),
        // Columns that stand twice, and the rows below them.
        (
            "address,password,Password\na@a.test,x,x\nhans,x,x\n",
            &[
                "1: has 2 columns for password, \"password\" and \"Password\"".into(),
                "3: the cell under \"address\" is no mail address".into(),
            ],
        ),
        (
            "address,address,password\na@a.test,b@a.test,\"x\n",
            &[
                "1: has 2 columns for address, \"address\" and \"address\"".into(),
                format!("2: the cell under \"password\" {quote}"),
            ],
        ),
        (
            "E-Mail-Konto;password\na@a.test;x\nb@a.test;x;y\n",
            &[
                "1: names no column address; its columns are \"E-Mail-Konto\", \"password\"".into(),
                "3: has 3 cells, and the first line names 2 columns".into(),
            ],
        ),
        ("address,password\n", &["1: is the only line, so the list has no mailbox".into()]),
        ("\r\nE-Mail;Kennwort\r\n;\r\n", &["2: is the only line, so the list has no mailbox".into()]),
        // Missing cells are told in the same breath, and where nothing else is wrong it may be given elsewhere.
        (
            "address;password\nanna;x\nb@a.test;\nc@a.test;y\n",
            &[
                "2: the cell under \"address\" is no mail address".into(),
                "3: the cell under \"password\" is empty".into(),
            ],
        ),
    ] {
        assert_eq!(refused(text), wanted, "{text:?}");
    }
}

#[test]
fn a_mailbox_that_is_listed_twice_alike_is_one() {
    let list = read(
        "address,password\nAnna@a.test,x\nanna@A.TEST,x\njörg@münchen.test,y\njo\u{308}rg@xn--mnchen-3ya.test,y\n",
    );
    let list = list.unwrap();
    assert_eq!((list.rows.len(), &list.repeated[..]), (2, &[(3, 2), (5, 4)][..]));
}

#[test]
fn a_list_without_a_column_of_addresses_says_what_it_has_and_never_shows_a_row() {
    let told = |text: &str| {
        let refusal = read(text).map(|list| list.rows.len()).unwrap_err().remove(0);
        (refusal.line, format!("{}; {}", refusal.what, refusal.hint))
    };
    let (line, text) = told("\r\nMitarbeiter;E-Mail-Adresse;Kennwort\r\nAnna;anna@a.test;hunter2\r\n");
    assert_eq!(line, 2);
    assert!(text.contains("its columns are \"Mitarbeiter\", \"E-Mail-Adresse\", \"Kennwort\""), "{text}");
    assert!(text.contains("spec.columns: {address: [\"E-Mail-Adresse\"]}"), "{text}");
    for text in ["anna@a.test,hunter2\nbob@a.test,hunter2\n", "anna;hunter2\nbob;hunter2\n", "hunter2\n"] {
        let (_, told) = told(text);
        assert!(!told.contains("hunter2") && told.contains("names the columns"), "{told}");
    }
    assert!(told("file:liste.csv").1.contains("--from-file"));
    assert!(told("").1.contains("is empty"));
    let two = told("address;EmailAddress\nMain Street;anna@a.test\n").1;
    assert!(two.contains("2 columns for address") && two.contains("spec.columns"), "{two}");
    // No manifest tells two columns of one name apart.
    let alike = told("address,address,password\na@a.test,b@a.test,x\n").1;
    assert!(alike.contains("name it otherwise in line 1") && !alike.contains("spec.columns"), "{alike}");
}

#[test]
fn rows_that_could_stand_are_known_beside_those_that_cannot() {
    let refused = List::read(b"address,password\na@a.test,\"x\nb@b.test,y\n", &Heads::default()).unwrap_err();
    let rest = refused.rest.unwrap();
    assert_eq!((rest.rows.len(), rest.rows[0].address.to_string()), (1, "b@b.test".to_owned()));
}

#[test]
fn columns_have_the_names_that_the_manifest_gives_them() {
    let heads = Heads::new([
        (Column::Address, vec!["Neue Mailadresse".to_owned(), "E-Mail-Adresse".to_owned()]),
        (Column::Password, vec!["Kennwort".to_owned()]),
        (Column::DestinationPassword, vec!["Neues Kennwort".to_owned()]),
    ]);
    let text = "Address;e-mail adresse;KENNWORT;neues_kennwort;destination;destinationUsername\r\n\
                Hauptstraße 1;jörg@a.test;alt;neu;j@new.test;joerg\r\n";
    let list = List::read(text.as_bytes(), &heads).unwrap();
    let row = &list.rows[0];
    let secret = |secret: &Option<Secret>| secret.as_ref().unwrap().expose().to_owned();
    assert_eq!(
        (row.address.to_string(), secret(&row.password), secret(&row.destination_password)),
        ("jörg@a.test".into(), "alt".into(), "neu".into())
    );
    assert_eq!(row.destination_username.as_deref(), Some("joerg"));
    assert!(list.has(Column::Destination) && !list.has(Column::Username));
}

proptest! {
    #[test]
    fn whatever_it_is_no_line_is_lost_or_invented(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = List::read(&bytes, &Heads::default());
    }

    #[test]
    fn a_password_comes_whole_or_not_at_all(
        passwords in prop::collection::vec("[ -~äß]{1,12}", 1..6),
        delimiter in prop::sample::select(vec![',', ';', '\t', '|']),
        crlf in any::<bool>(),
        quoted in any::<bool>(),
    ) {
        let end = if crlf { "\r\n" } else { "\n" };
        let mut text = format!("address{delimiter}password{end}");
        for (at, password) in passwords.iter().enumerate() {
            let cell = if quoted { format!("\"{}\"", password.replace('"', "\"\"")) } else { password.clone() };
            let _ = write!(text, "m{at}@a.test{delimiter}{cell}{end}");
        }
        match List::read(text.as_bytes(), &Heads::default()) {
            Ok(list) => {
                for row in &list.rows {
                    let at: usize = row.address.local_part()[1..].parse().unwrap();
                    let wanted = &passwords[at];
                    let plain = wanted.strip_prefix('"').and_then(|w| w.strip_suffix('"')).filter(|_| !quoted);
                    let plain = plain.map(|plain| plain.replace("\"\"", "\""));
                    let read = row.password.as_ref().map_or("", Secret::expose);
                    prop_assert!(read == wanted || Some(read) == plain.as_deref(), "{read:?} of {wanted:?}");
                    prop_assert_eq!(row.line, at + 2);
                }
            }
            Err(refused) => prop_assert!(!quoted, "{:?}", refused.refusals),
        }
    }
}

#[test]
fn a_name_of_a_column_that_is_mistyped_is_no_column_that_is_not_there() {
    let heads = |names: &[(Column, &str)]| {
        Heads::new(names.iter().map(|(column, name)| (*column, vec![(*name).to_owned()])))
    };
    let list = "E-Mail;Kennwort;Neue Adresse\na@a.test;x;b@b.test\n";
    let known = [(Column::Address, "E-Mail"), (Column::Password, "Kennwort")];
    let with = |column, name| heads(&[known[0], known[1], (column, name)]);
    assert!(List::read(list.as_bytes(), &with(Column::Destination, "neue adresse")).is_ok());
    let refused = List::read(list.as_bytes(), &with(Column::Destination, "Neue Addresse")).unwrap_err();
    let [refusal] = &refused.refusals[..] else { panic!("{refused:?}") };
    assert_eq!(
        (refusal.line, refusal.what.as_str()),
        (1, "has no column \"Neue Addresse\", which spec.columns.destination names")
    );
    assert!(
        refusal.hint.ends_with("nothing reads these columns of the list: \"Neue Adresse\""),
        "{}",
        refusal.hint
    );
    // A list of another form, of which everything is read, needs no such column.
    let short = "E-Mail;Kennwort\na@a.test;x\n";
    assert!(List::read(short.as_bytes(), &with(Column::Destination, "Neue Adresse")).is_ok());
}
