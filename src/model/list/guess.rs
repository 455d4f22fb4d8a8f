//! The probable meaning of the columns of a foreign list, by their names in the languages that such lists are written
//! in and by the cells below them. A guess is written into a manifest for a person to read; lists are never read by
//! one.

use super::{Column, Sketch, fold};

/// Names of columns as they are compared, in English, German, French, Spanish, Italian and Dutch.
const NAMES: [(Column, &[&str]); 7] = [
    (
        Column::DestinationPassword,
        &[
            "newpassword",
            "targetpassword",
            "destinationpassword",
            "neueskennwort",
            "neuespasswort",
            "zielkennwort",
            "zielpasswort",
            "kennwortneu",
            "passwortneu",
            "nouveaumotdepasse",
            "nuevacontraseña",
            "nuovapassword",
            "nieuwwachtwoord",
        ],
    ),
    (
        Column::DestinationUsername,
        &[
            "newusername",
            "newuser",
            "newlogin",
            "targetuser",
            "targetusername",
            "neuerbenutzername",
            "neuerbenutzer",
            "neueanmeldung",
            "zielbenutzer",
            "zielbenutzername",
            "benutzernameneu",
            "nouvelutilisateur",
            "nuevousuario",
            "nuovoutente",
            "nieuwegebruikersnaam",
        ],
    ),
    (
        Column::Destination,
        &[
            "newaddress",
            "newemail",
            "newemailaddress",
            "newmailbox",
            "target",
            "targetaddress",
            "targetemail",
            "neueadresse",
            "neueemail",
            "neueemailadresse",
            "neuemailadresse",
            "neuespostfach",
            "ziel",
            "zieladresse",
            "zielpostfach",
            "zielemail",
            "emailneu",
            "nouvelleadresse",
            "nouvelleadressemail",
            "nuevocorreo",
            "nuevadirección",
            "nuovoindirizzo",
            "nuovaemail",
            "nieuwadres",
            "nieuwemailadres",
        ],
    ),
    (Column::RefreshToken, &["refreshtoken"]),
    (
        Column::Password,
        &[
            "password",
            "oldpassword",
            "sourcepassword",
            "pass",
            "pw",
            "pwd",
            "kennwort",
            "passwort",
            "alteskennwort",
            "altespasswort",
            "kennwortalt",
            "passwortalt",
            "motdepasse",
            "ancienmotdepasse",
            "contraseña",
            "contrasena",
            "wachtwoord",
        ],
    ),
    (
        Column::Username,
        &[
            "username",
            "user",
            "login",
            "loginname",
            "account",
            "olduser",
            "sourceuser",
            "benutzername",
            "benutzer",
            "anmeldename",
            "anmeldung",
            "konto",
            "kontoname",
            "utilisateur",
            "nomdutilisateur",
            "identifiant",
            "usuario",
            "utente",
            "nomeutente",
            "gebruikersnaam",
            "gebruiker",
        ],
    ),
    (
        Column::Address,
        &[
            "address",
            "email",
            "emailaddress",
            "mail",
            "mailaddress",
            "mailbox",
            "primarysmtpaddress",
            "source",
            "sourceemail",
            "oldaddress",
            "oldemail",
            "emailadresse",
            "mailadresse",
            "adresse",
            "postfach",
            "quelle",
            "quelladresse",
            "alteadresse",
            "alteemail",
            "alteemailadresse",
            "emailalt",
            "courriel",
            "adressemail",
            "adresseemail",
            "adresseélectronique",
            "correo",
            "correoelectrónico",
            "correoelectronico",
            "dirección",
            "indirizzo",
            "indirizzoemail",
            "emailadres",
            "mailadres",
        ],
    ),
];

/// The probable meaning of each column; `None` for an unknown one.
pub fn guess(sketch: &Sketch) -> Vec<Option<Column>> {
    let mut guessed: Vec<Option<Column>> = vec![None; sketch.head.len()];
    // Few may get a new address, and some be mistyped: of a column whose name is known its filled cells tell enough. One for new
    // addresses that nobody has filled yet may be filled before the list is read.
    let may_hold_addresses = |at: usize, column: Column| match (sketch.filled[at], sketch.like_addresses[at])
    {
        (0, _) => column == Column::Destination || sketch.rows == 0,
        (filled, like) => like * 2 > filled,
    };
    for (column, names) in NAMES {
        let is_of_addresses = matches!(column, Column::Address | Column::Destination);
        let fits = |at: &usize| {
            guessed[*at].is_none()
                && names.contains(&fold(&sketch.head[*at]).as_str())
                && (!is_of_addresses || may_hold_addresses(*at, column))
        };
        if let Some(at) = (0..sketch.head.len()).find(fits) {
            guessed[at] = Some(column);
        }
    }
    // Addresses are known by what they look like: the first column of them is where the mail is. A column of a name that means
    // nothing must hold them in most rows; a few may be anybody's, such as those of managers.
    let holds_addresses = |at: usize| sketch.addresses[at] * 2 > sketch.rows;
    // A manifest tells columns apart by their names.
    let is_once = |at: usize| {
        let name = fold(&sketch.head[at]);
        sketch.head.iter().filter(|other| fold(other) == name).count() == 1
    };
    for wanted in [Column::Address, Column::Destination] {
        let is_there = guessed.contains(&Some(wanted));
        let next =
            (0..sketch.head.len()).find(|at| guessed[*at].is_none() && is_once(*at) && holds_addresses(*at));
        if let Some(at) = next.filter(|_| !is_there) {
            guessed[at] = Some(wanted);
        }
    }
    guessed
}

#[cfg(test)]
mod tests {
    use super::super::sketch;
    use super::*;

    #[test]
    fn columns_are_known_by_their_names_and_by_what_is_in_them() {
        let guessed = |text: &str| {
            let sketch = sketch(text.as_bytes()).unwrap();
            let guessed = guess(&sketch);
            let show = |column: &Option<Column>| column.map_or("-".to_owned(), |column| column.to_string());
            guessed.iter().map(show).collect::<Vec<_>>().join(" ")
        };
        for (text, wanted) in [
            (
                "Name;E-Mail-Adresse;Kennwort;Neue Adresse;Neues Kennwort\r\nJörg;j@a.test;x;k@b.test;y\r\n",
                "- address password destination destinationPassword",
            ),
            ("Anrede;Alt;Neu;Passwort\nFrau;a@a.test;b@b.test;x\n", "- address destination password"),
            ("Courriel,Mot de passe,Utilisateur\na@a.test,x,a\n", "address password username"),
            ("Adresse;Mail\nHauptstraße 1;a@a.test\n", "- address"),
            ("EmailAddress,UserName,Password\na@a.test,a,x\n", "address username password"),
            ("who,what\na,b\n", "- -"),
            // Few get a new address, nobody has one yet, and one is mistyped.
            (
                "E-Mail-Adresse;Kennwort;Neue Adresse\na@a.test;x;\nb@a.test;x;\nc@a.test;x;c@b.test\n",
                "address password destination",
            ),
            ("E-Mail;Kennwort;Neue Adresse\na@a.test;x;\n", "address password destination"),
            ("E-Mail;Kennwort;Neue Adresse\na@a.test;x;a@b@test\n", "address password destination"),
            ("E-Mail;Neue Adresse\na@a.test;Hauptstraße 1\n", "address -"),
            // A manager's address is nobody's new one.
            ("E-Mail;Kennwort;Vorgesetzte\na@a.test;x;\nb@a.test;x;a@a.test\n", "address password -"),
            ("address,address,password\na@a.test,b@a.test,x\n", "address - password"),
            ("E-Mail-Adresse;Kennwort\n", "address password"),
        ] {
            assert_eq!(guessed(text), wanted, "{text}");
        }
    }
}
