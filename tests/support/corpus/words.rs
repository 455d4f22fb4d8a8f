//! The people, subjects and sentences that mail is made of.

/// Display name and address.
pub const PEOPLE: [(&str, &str); 14] = [
    ("Alice Martin", "alice@a.test"),
    ("Jörg Müller", "joerg.mueller@a.test"),
    ("Anna Lindqvist", "anna@a.test"),
    ("Bob O'Neil", "bob@b.test"),
    ("Dora Novák", "dora@b.test"),
    ("Carol Tremblay", "carol@c.test"),
    ("Chris García", "chris@c.test"),
    ("Пётр Иванов", "petr@post.example"),
    ("佐藤 健二", "kenji.sato@mail.example"),
    ("Zoë Brown, Ltd.", "zoe@brown.example"),
    ("Λευτέρης Παππάς", "lefteris@mail.example"),
    ("فاطمة خان", "fatima.khan@mail.example"),
    ("Buchhaltung", "rechnung@lieferant.example"),
    ("IMAP protocol list", "imap-protocol@lists.example"),
];

/// Subjects of new threads.
pub const SUBJECTS: [&str; 20] = [
    "Minutes of Tuesday's meeting",
    "Quarterly report: first draft",
    "Your order has shipped",
    "Lunch on Friday?",
    "Server maintenance this weekend",
    "Contract renewal",
    "Budget 2021",
    "Angebot für die neue Küche",
    "Rechnung Nr. 4711 – fällig am Monatsende",
    "Grüße aus Köln",
    "Réunion de l'équipe à 14 h",
    "Facture n° 2019-0042 à régler",
    "Presupuesto para el año que viene",
    "Счёт на оплату",
    "Отчёт за третий квартал",
    "請求書の送付について",
    "会議の議事録",
    "Πρόσκληση σε συνάντηση",
    "دعوة إلى الاجتماع",
    "[imap-protocol] UIDVALIDITY after a restore 🤔",
];

/// Sentences that bodies are made of.
pub const SENTENCES: [&str; 24] = [
    "Thanks for the quick answer, that helps a lot.",
    "Please have a look at the attached draft before Friday.",
    "I have moved the meeting to ten o'clock, the room stays the same.",
    "The numbers for March are still missing; could you send them?",
    "As discussed, we will migrate the mailboxes next week.",
    "Let me know if 3 = 3 still holds, and whether a <b>tag</b> & an ampersand survive.",
    "No rush, tomorrow is fine.",
    "Best regards from the office",
    "vielen Dank für Ihre Nachricht, wir melden uns bis übermorgen.",
    "Die Lieferung verzögert sich leider um drei Tage.",
    "Anbei die Rechnung; bitte überweisen Sie den Betrag von 1.234,56 €.",
    "Schöne Grüße aus dem verregneten Münster",
    "Merci de confirmer votre présence avant jeudi.",
    "Vous trouverez la pièce jointe ci-dessous, à bientôt !",
    "¿Podrías revisar la propuesta mañana por la mañana?",
    "Спасибо, документы получены.",
    "Пожалуйста, подтвердите оплату до пятницы.",
    "お世話になっております。添付をご確認ください。",
    "よろしくお願いいたします。",
    "Ευχαριστώ πολύ, τα λέμε αύριο.",
    "شكرا جزيلا على ردك السريع.",
    "The link is https://example.org/a/very/long/path?with=parameters&and=more#anchors and it works.",
    "From here on it is all downhill.",
    "🎉 Done at last!",
];

/// File name and media type of attachments.
pub const ATTACHMENTS: [(&str, &str); 7] = [
    ("invoice-4711.pdf", "application/pdf"),
    ("Angebot Küche.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ("figures.xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ("photo.jpg", "image/jpeg"),
    ("請求書.pdf", "application/pdf"),
    ("archive.zip", "application/zip"),
    ("winmail.dat", "application/ms-tnef"),
];
