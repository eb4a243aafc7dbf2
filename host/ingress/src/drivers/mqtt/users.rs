//! Users and their passwords: argon2id hashes, in the configuration or in a file.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use argon2::Argon2;
use argon2::password_hash::PasswordVerifier;
use argon2::password_hash::phc::PasswordHash;
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use sandbar_reading::ConfigError;
use sandbar_tls::Renewed;
use sha2::Sha256;
use tokio::sync::Semaphore;

use super::config::UserConfig;

/// How many passwords are checked at once: each takes 19 MiB, and a processor for tens of milliseconds.
const CHECKS: usize = 2;

/// When so many addresses have waited, those that do not any more are forgotten.
const ADDRESSES: usize = 1024;

/// How many checks that succeeded are remembered, so that a client that comes back costs nothing.
const REMEMBERED: usize = 4096;

/// What nobody has, for names that there are not: they take as long as others.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c2FuZGJhci1ub2JvZHk$6m6wB2LrGmqyzpkAVCRRHDmzzHzDYcwuKnYSK1nMGEI";

pub(super) struct Users {
    inline: HashMap<String, Arc<str>>,
    file: Option<Renewed<HashMap<String, Arc<str>>>>,
    checks: Arc<Semaphore>,
    /// Of each address, one waits for its check: many who come from one keep nobody else waiting.
    turns: Mutex<HashMap<IpAddr, Weak<Semaphore>>>,
    /// Keyed hashes of name, password and stored hash.
    known: Mutex<HashSet<[u8; 32]>>,
    key: [u8; 32],
}

impl Users {
    pub(super) fn new(inline: Vec<UserConfig>, file: Option<PathBuf>) -> Result<Self, ConfigError> {
        for (index, user) in inline.iter().enumerate() {
            if let Err(problem) = check_hash(&user.password_hash) {
                return Err(ConfigError::at(format!("users[{index}].password_hash"), problem));
            }
        }
        let file = file.map(|file| Renewed::new([file.clone()], move || read(&file))).transpose()?;
        Ok(Self {
            inline: inline.into_iter().map(|user| (user.name, user.password_hash.into())).collect(),
            file,
            checks: Arc::new(Semaphore::new(CHECKS)),
            turns: Mutex::default(),
            known: Mutex::default(),
            key: rand::random(),
        })
    }

    /// Whether names mean anything here.
    pub(super) fn are_any(&self) -> bool {
        !self.inline.is_empty() || self.file.is_some()
    }

    /// Whether `password` is that of `name`, which comes from there.
    pub(super) async fn check(self: &Arc<Self>, name: &str, password: &[u8], from: IpAddr) -> bool {
        let users = Arc::clone(self);
        let wanted = name.to_owned();
        let hash = tokio::task::spawn_blocking(move || users.hash_of(&wanted)).await.ok().flatten();
        let mark = self.mark(name, password, hash.as_deref().unwrap_or_default());
        let is_known = || hash.is_some() && self.known.lock().contains(&mark);
        if is_known() {
            return true;
        }
        let Ok(own_turn) = self.turn(from).acquire_owned().await else { return false };
        // Perhaps since another had its turn.
        if is_known() {
            return true;
        }
        let Ok(turn) = Arc::clone(&self.checks).acquire_owned().await else { return false };
        let (password, there) = (password.to_vec(), hash.is_some());
        let hash = hash.unwrap_or_else(|| NOBODY.into());
        let verified = tokio::task::spawn_blocking(move || {
            // Also if nobody waits for it any more.
            let _turns = (own_turn, turn);
            PasswordHash::new(&hash)
                .is_ok_and(|hash| Argon2::default().verify_password(&password, &hash).is_ok())
        });
        let right = verified.await.unwrap_or(false) && there;
        if right {
            let mut known = self.known.lock();
            if known.len() >= REMEMBERED {
                known.clear();
            }
            known.insert(mark);
        }
        right
    }

    fn turn(&self, from: IpAddr) -> Arc<Semaphore> {
        let place = match from.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
            v4 => v4,
        };
        let mut turns = self.turns.lock();
        if turns.len() >= ADDRESSES {
            turns.retain(|_, turn| turn.strong_count() > 0);
        }
        turns.get(&place).and_then(Weak::upgrade).unwrap_or_else(|| {
            let turn = Arc::new(Semaphore::new(1));
            turns.insert(place, Arc::downgrade(&turn));
            turn
        })
    }

    /// Nothing is checked until it is dropped.
    #[cfg(test)]
    pub(super) fn hold(&self) -> tokio::sync::OwnedSemaphorePermit {
        let all = Arc::clone(&self.checks).try_acquire_many_owned(CHECKS as u32);
        all.expect("nothing is checked yet")
    }

    fn hash_of(&self, name: &str) -> Option<Arc<str>> {
        if let Some(hash) = self.inline.get(name) {
            return Some(Arc::clone(hash));
        }
        self.file.as_ref()?.current().get(name).cloned()
    }

    fn mark(&self, name: &str, password: &[u8], hash: &str) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("every length is a key");
        for part in [name.as_bytes(), password, hash.as_bytes()] {
            mac.update(&part.len().to_le_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

fn read(file: &Path) -> Result<HashMap<String, Arc<str>>, ConfigError> {
    let shown = file.display();
    let refused = |problem: String| ConfigError::at("users_file", problem);
    let text = std::fs::read_to_string(file)
        .map_err(|error| refused(format!("the file {shown} cannot be read: {error}")))?;
    parse(&text).map_err(|problem| refused(format!("the file {shown}: {problem}")))
}

/// Lines `name:hash`; empty ones and those that begin with `#` say nothing.
fn parse(text: &str) -> Result<HashMap<String, Arc<str>>, String> {
    let mut users = HashMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, hash) = line.split_once(':').ok_or_else(|| format!("line {number} is not `name:hash`"))?;
        check_hash(hash).map_err(|problem| format!("line {number}: {problem}"))?;
        users.insert(name.to_owned(), hash.into());
    }
    Ok(users)
}

fn check_hash(hash: &str) -> Result<(), String> {
    match PasswordHash::new(hash) {
        Ok(parsed) if parsed.algorithm.as_str().starts_with("argon2") => Ok(()),
        _ => Err("is not an argon2 hash, as `sandbar users hash` prints it".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use argon2::password_hash::PasswordHasher;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn hash(password: &str) -> String {
        let quick = argon2::Params::new(8, 1, 1, None).unwrap();
        Argon2::from(quick).hash_password(password.as_bytes()).unwrap().to_string()
    }

    #[tokio::test]
    async fn knows_users_of_the_configuration_and_of_the_file() {
        let file = std::env::temp_dir().join(format!("sandbar-users-{}", std::process::id()));
        std::fs::write(&file, format!("# people\n\nbob:{}\n", hash("b"))).unwrap();
        let ann = UserConfig { name: "ann".into(), password_hash: hash("a") };
        let users = Arc::new(Users::new(vec![ann], Some(file.clone())).unwrap());
        for _ in 0..2 {
            assert!(users.check("ann", b"a", HERE).await && users.check("bob", b"b", HERE).await);
        }
        for (name, password) in [("ann", "b"), ("bob", "a"), ("cid", "a"), ("", "")] {
            assert!(!users.check(name, password.as_bytes(), HERE).await, "{name}");
        }
        // Another file with the same time.
        let written = std::fs::metadata(&file).and_then(|metadata| metadata.modified()).unwrap();
        let other = file.with_extension("new");
        std::fs::write(&other, format!("bob:{}\n", hash("new"))).unwrap();
        std::fs::File::options().append(true).open(&other).unwrap().set_modified(written).unwrap();
        std::fs::rename(&other, &file).unwrap();
        assert!(users.check("bob", b"new", HERE).await && !users.check("bob", b"b", HERE).await);
        std::fs::remove_file(file).unwrap();
        assert!(users.check("bob", b"new", HERE).await, "those that were read last still count");
    }

    #[tokio::test]
    async fn many_who_come_from_one_address_keep_nobody_else_waiting() {
        const MANY: usize = 50;
        let ann = UserConfig { name: "ann".into(), password_hash: hash("a") };
        let users = Arc::new(Users::new(vec![ann], None).unwrap());
        let refused = Arc::<AtomicUsize>::default();
        let held = users.hold();
        for _ in 0..MANY {
            let (users, refused) = (Arc::clone(&users), Arc::clone(&refused));
            tokio::spawn(async move {
                assert!(!users.check("ann", b"wrong", "192.0.2.1".parse().unwrap()).await);
                refused.fetch_add(1, Ordering::Relaxed);
            });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        let other = tokio::spawn({
            let users = Arc::clone(&users);
            async move { users.check("ann", b"a", HERE).await }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(held);
        assert!(other.await.unwrap());
        let refused = refused.load(Ordering::Relaxed);
        assert!(refused < MANY / 2, "{refused} before it");
    }

    #[test]
    fn names_the_line_that_is_wrong() {
        assert_eq!(parse("ann").unwrap_err(), "line 1 is not `name:hash`");
        assert!(parse("\nann:secret").unwrap_err().starts_with("line 2: is not an argon2 hash"));
        let error = Users::new(vec![UserConfig { name: "a".into(), password_hash: "x".into() }], None);
        assert_eq!(error.err().unwrap().setting, "users[0].password_hash");
    }

    #[test]
    fn nobody_has_a_hash_that_can_be_checked() {
        assert_eq!(check_hash(NOBODY), Ok(()));
    }
}
