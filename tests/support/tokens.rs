//! An authorization server (RFC 6749): it checks what proves a client, signs JSON Web Tokens, and counts. Dovecot checks the
//! tokens by the same key and knows nothing else of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::ca::{Ca, Certificate};
use super::dovecot::Builder;
use super::web::{Web, reply};

/// The behaviour of the server towards clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Gives tokens to whoever proves who it is.
    Fair,
    /// 503 without a body.
    Down,
    /// An error by its name, with 400.
    Refusing(&'static str),
    /// 429 with this Retry-After.
    Busy(&'static str),
}

/// One that is known to the server.
#[derive(Clone, Debug)]
pub enum Client {
    /// By a secret.
    Secret(String),
    /// By a public key (PEM) and an algorithm, PS256 or RS256.
    Key(String, &'static str),
}

/// The server.
pub struct TokenServer {
    web: Web,
    state: Arc<State>,
    _directory: TempDir,
}

struct State {
    /// The key that signs tokens (HS256).
    key: Vec<u8>,
    clients: BTreeMap<String, Client>,
    refresh: Mutex<BTreeSet<String>>,
    mood: Mutex<Mood>,
    /// Seconds that a token lasts.
    lifetime: AtomicU64,
    /// Seconds by which the server's clock is ahead.
    ahead: AtomicI64,
    given: AtomicUsize,
    asked: AtomicUsize,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
    /// Every token and refresh token that was given.
    tokens: Mutex<Vec<String>>,
    /// Users that acted through a service account.
    subjects: Mutex<BTreeSet<String>>,
    /// The codes that users were shown for a device, until somebody allows them.
    devices: Mutex<BTreeMap<String, bool>>,
    directory: std::path::PathBuf,
}

impl TokenServer {
    /// On a free port of loopback, with these clients and these refresh tokens.
    pub fn start(ca: &Ca, clients: &[(&str, Client)], refresh: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), &ca.issue(&["127.0.0.1"]), clients, refresh)
    }

    /// At an address, under the name of a certificate.
    pub fn start_at(
        address: SocketAddr,
        certificate: &Certificate,
        clients: &[(&str, Client)],
        refresh: &[&str],
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let state = Arc::new(State {
            key: b"the key of a server that signs tokens for tests".to_vec(),
            clients: clients.iter().map(|(id, client)| ((*id).to_owned(), client.clone())).collect(),
            refresh: Mutex::new(refresh.iter().map(|&token| token.to_owned()).collect()),
            mood: Mutex::new(Mood::Fair),
            lifetime: AtomicU64::new(3600),
            ahead: AtomicI64::new(0),
            given: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
            at_once: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
            tokens: Mutex::default(),
            subjects: Mutex::default(),
            devices: Mutex::default(),
            directory: directory.path().to_owned(),
        });
        let asked = Arc::clone(&state);
        let web = Web::answering(address, Some(certificate), move |request| {
            let now = asked.at_once.fetch_add(1, Ordering::SeqCst) + 1;
            asked.most_at_once.fetch_max(now, Ordering::SeqCst);
            asked.asked.fetch_add(1, Ordering::SeqCst);
            // Long enough for others to come in between.
            std::thread::sleep(Duration::from_millis(20));
            let answer = asked.answer(request);
            asked.at_once.fetch_sub(1, Ordering::SeqCst);
            answer
        });
        Self { web, state, _directory: directory }
    }

    /// The token endpoint.
    pub fn url(&self) -> String {
        format!("https://{}/token", self.web.address())
    }

    /// Where a device code is asked for.
    pub fn device_url(&self) -> String {
        format!("https://{}/devicecode", self.web.address())
    }

    /// Changes what it does.
    pub fn set_mood(&self, mood: Mood) {
        *self.state.mood.lock().unwrap() = mood;
    }

    /// Changes how long tokens last, in seconds.
    pub fn set_lifetime(&self, seconds: u64) {
        self.state.lifetime.store(seconds, Ordering::SeqCst);
    }

    /// Puts its clock ahead by so many seconds.
    pub fn set_ahead(&self, seconds: i64) {
        self.state.ahead.store(seconds, Ordering::SeqCst);
    }

    /// Allows every device that waits.
    pub fn allow_devices(&self) {
        for allowed in self.state.devices.lock().unwrap().values_mut() {
            *allowed = true;
        }
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.state.asked.load(Ordering::SeqCst)
    }

    /// How many tokens it gave.
    pub fn given(&self) -> usize {
        self.state.given.load(Ordering::SeqCst)
    }

    /// The most questions that were open at one time.
    pub fn most_at_once(&self) -> usize {
        self.state.most_at_once.load(Ordering::SeqCst)
    }

    /// Every token and refresh token that it gave.
    pub fn tokens(&self) -> Vec<String> {
        self.state.tokens.lock().unwrap().clone()
    }

    /// Every assertion that was sent to it.
    pub fn assertions(&self) -> Vec<String> {
        let asked = self.web.asked();
        let forms = asked.iter().filter_map(|request| request.split_once("\r\n\r\n"));
        let fields = forms.flat_map(|(_, body)| url::form_urlencoded::parse(body.as_bytes()).into_owned());
        fields.filter(|(name, _)| name.ends_with("assertion")).map(|(_, value)| value).collect()
    }

    /// The users that acted through a service account.
    pub fn subjects(&self) -> Vec<String> {
        self.state.subjects.lock().unwrap().iter().cloned().collect()
    }

    /// Makes a Dovecot accept the tokens for these users: a token is an application's and names no mailbox. Keys and
    /// settings lie in a directory that this value keeps.
    pub fn believed_by(&self, server: Builder, users: &[&str]) -> Builder {
        let root = &self.state.directory;
        let keys = root.join("keys/default/HS256");
        fs::create_dir_all(&keys).unwrap();
        fs::write(keys.join("default"), BASE64_STANDARD.encode(&self.state.key)).unwrap();
        for path in [root.as_path(), &root.join("keys"), &root.join("keys/default"), &keys] {
            allow(path, 0o755);
        }
        allow(&keys.join("default"), 0o644);
        let conf = root.join("oauth2.conf.ext");
        // The name in a token and the one that is asked for are made the same before they are compared.
        let text = format!(
            "introspection_mode = local\nlocal_validation_key_dict = fs:posix:prefix={}/keys/\n\
             username_attribute = sub\nusername_format = any\n",
            root.display()
        );
        fs::write(&conf, text).unwrap();
        allow(&conf, 0o644);
        server.setting(&format!(
            "auth_verbose = yes\nauth_mechanisms = $auth_mechanisms oauthbearer xoauth2\n\
             passdb {{\n driver = oauth2\n mechanisms = xoauth2 oauthbearer\n username_filter = {}\n args = {}\n}}",
            users.join(" "),
            conf.display()
        ))
    }
}

fn allow(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

impl State {
    fn now(&self) -> i64 {
        let real = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        i64::try_from(real).unwrap() + self.ahead.load(Ordering::SeqCst)
    }

    fn date(&self) -> String {
        let now = jiff::Timestamp::from_second(self.now()).unwrap();
        format!("Date: {}\r\nContent-Type: application/json\r\n", now.strftime("%a, %d %b %Y %H:%M:%S GMT"))
    }

    fn answer(&self, request: &str) -> String {
        let mood = self.mood.lock().unwrap().clone();
        let refused = |status: &str, headers: &str, error: &str| {
            let body = json!({"error": error, "error_description": format!("It is {error}. Trace 1")});
            reply(status, &format!("{}{headers}", self.date()), &body.to_string())
        };
        match mood {
            Mood::Fair => {}
            Mood::Down => return reply("503 Service Unavailable", &self.date(), ""),
            Mood::Refusing(error) => return refused("400 Bad Request", "", error),
            Mood::Busy(after) => {
                return refused("429 Too Many Requests", &format!("Retry-After: {after}\r\n"), "slow_down");
            }
        }
        let body = request.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let form: BTreeMap<String, String> =
            url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
        let is_device = request.lines().next().is_some_and(|line| line.contains("/devicecode "));
        match if is_device { self.begin_device(&form) } else { self.give(&form) } {
            Ok(document) => reply("200 OK", &self.date(), &document.to_string()),
            Err(error) => refused("400 Bad Request", "", error),
        }
    }

    fn begin_device(&self, form: &BTreeMap<String, String>) -> Result<Value, &'static str> {
        self.clients.get(field(form, "client_id")?).ok_or("invalid_client")?;
        let code = format!("device-{}", self.asked.load(Ordering::SeqCst));
        self.devices.lock().unwrap().insert(code.clone(), false);
        Ok(json!({
            "device_code": code,
            "user_code": "WDJB-MJHT",
            "verification_uri": "https://login.example/device",
            "expires_in": 60,
            "interval": 1,
        }))
    }

    fn give(&self, form: &BTreeMap<String, String>) -> Result<Value, &'static str> {
        let subject = match field(form, "grant_type")? {
            "client_credentials" => {
                let id = field(form, "client_id")?;
                match self.clients.get(id).ok_or("invalid_client")? {
                    Client::Secret(secret) if form.get("client_secret") == Some(secret) => {}
                    Client::Key(key, algorithm) => {
                        let claims = self.check(field(form, "client_assertion")?, key, algorithm)?;
                        if claims["iss"] != *id || claims["sub"] != *id || claims["jti"].is_null() {
                            return Err("invalid_client");
                        }
                    }
                    Client::Secret(_) => return Err("invalid_client"),
                }
                id.to_owned()
            }
            "urn:ietf:params:oauth:grant-type:jwt-bearer" => {
                let assertion = field(form, "assertion")?;
                let claims = read(assertion.split('.').nth(1).unwrap_or_default())?;
                let id = claims["iss"].as_str().ok_or("invalid_grant")?;
                let Some(Client::Key(key, algorithm)) = self.clients.get(id) else {
                    return Err("invalid_grant");
                };
                let claims = self.check(assertion, key, algorithm).map_err(|_| "invalid_grant")?;
                let subject = claims["sub"].as_str().ok_or("invalid_grant")?.to_owned();
                self.subjects.lock().unwrap().insert(subject.clone());
                subject
            }
            "refresh_token" => {
                self.clients.get(field(form, "client_id")?).ok_or("invalid_client")?;
                let old = field(form, "refresh_token")?;
                // Each is good for once.
                if !self.refresh.lock().unwrap().remove(old) {
                    return Err("invalid_grant");
                }
                return Ok(self.sign("user", true));
            }
            "urn:ietf:params:oauth:grant-type:device_code" => {
                let allowed = self.devices.lock().unwrap().get(field(form, "device_code")?).copied();
                return match allowed {
                    None => Err("expired_token"),
                    Some(false) => Err("authorization_pending"),
                    Some(true) => Ok(self.sign("user", true)),
                };
            }
            _ => return Err("unsupported_grant_type"),
        };
        Ok(self.sign(&subject, false))
    }

    /// A token, and where wanted a refresh token.
    fn sign(&self, subject: &str, refresh: bool) -> Value {
        let number = self.given.fetch_add(1, Ordering::SeqCst);
        let lifetime = self.lifetime.load(Ordering::SeqCst);
        // Dovecot compares it with the real time.
        let now = self.now() - self.ahead.load(Ordering::SeqCst);
        let encode = |part: Value| BASE64_URL_SAFE_NO_PAD.encode(part.to_string());
        let head = encode(json!({"alg": "HS256", "typ": "JWT"}));
        let end = now + i64::try_from(lifetime).unwrap();
        // Entra ID dates a token five minutes back, since those who check it have clocks of their own: Dovecot's time() may lag
        // by a tick, and to it a token of this very second would not have been issued yet.
        let issued = now - 300;
        let claims = json!({"sub": subject, "iat": issued, "exp": end, "jti": number.to_string()});
        let text = format!("{head}.{}", encode(claims));
        let token = format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(hmac(&self.key, text.as_bytes())));
        let mut document = json!({"token_type": "Bearer", "access_token": token, "expires_in": lifetime});
        self.tokens.lock().unwrap().push(token);
        if refresh {
            let next = format!("refresh-{number}-{}", hex(&hmac(&self.key, &number.to_be_bytes())[..8]));
            document["refresh_token"] = json!(next);
            self.refresh.lock().unwrap().insert(next.clone());
            self.tokens.lock().unwrap().push(next);
        }
        document
    }

    /// The claims of an assertion, if its signature, audience and times are right.
    fn check(&self, assertion: &str, key: &str, algorithm: &str) -> Result<Value, &'static str> {
        let parts: Vec<&str> = assertion.split('.').collect();
        let [head, claims, signature] = parts[..] else { return Err("invalid_client") };
        let signed = format!("{head}.{claims}");
        let (head, claims) = (read(head)?, read(claims)?);
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).map_err(|_| "invalid_client")?;
        let right = head["alg"] == algorithm
            && (algorithm != "PS256" || head["x5t#S256"].is_string())
            && verify(key, algorithm, signed.as_bytes(), &signature);
        let now = self.now();
        let time = |name: &str| claims[name].as_i64().unwrap_or_default();
        let in_time = time("iat") <= now + 60 && time("exp") > now && time("exp") <= now + 3600;
        let here = claims["aud"].as_str().is_some_and(|url| url.ends_with("/token"));
        if right && in_time && here { Ok(claims) } else { Err("invalid_client") }
    }
}

fn field<'a>(form: &'a BTreeMap<String, String>, name: &str) -> Result<&'a str, &'static str> {
    form.get(name).map(String::as_str).ok_or("invalid_request")
}

fn read(part: &str) -> Result<Value, &'static str> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| "invalid_client")?;
    serde_json::from_slice(&bytes).map_err(|_| "invalid_client")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// HMAC with SHA-256 (RFC 2104); the key is shorter than a block.
fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let padded =
        |with: u8| -> Vec<u8> { (0..64).map(|at| key.get(at).copied().unwrap_or_default() ^ with).collect() };
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().into()
}

/// An RSA key pair and a certificate for it, made by openssl: private key, public key, certificate, all PEM.
pub fn rsa() -> (String, String, String) {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    let (key, public, certificate) = (at("key"), at("public"), at("certificate"));
    let request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=mailferry", "-days", "2"];
    openssl(&[&request[..], &["-keyout", &key, "-out", &certificate]].concat());
    openssl(&["rsa", "-in", &key, "-pubout", "-out", &public]);
    let read = |path: &str| fs::read_to_string(path).unwrap();
    (read(&key), read(&public), read(&certificate))
}

fn openssl(args: &[&str]) {
    let output = Command::new("openssl").args(args).output().expect("openssl can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Another's eye on a signature: openssl's.
fn verify(public: &str, algorithm: &str, text: &[u8], signature: &[u8]) -> bool {
    let write = |bytes: &[u8]| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    };
    let (key, text, signature) = (write(public.as_bytes()), write(text), write(signature));
    let mut command = Command::new("openssl");
    command.args(["dgst", "-sha256"]);
    if algorithm == "PS256" {
        command.args(["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32"]);
    }
    command.arg("-verify").arg(key.path()).arg("-signature").arg(signature.path()).arg(text.path());
    command.output().expect("openssl can be run").status.success()
}
