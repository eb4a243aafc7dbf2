//! `wasi:keyvalue` on the key's state: one bucket, whose changes take effect with the handler's outputs.

use bytes::Bytes;
use wasmtime::component::Resource;

use crate::bindings::wasi::keyvalue::store::{Error, KeyResponse};
use crate::bindings::wasi::keyvalue::{atomics, batch, store};
use crate::host::{Host, lost};

/// The only bucket there is; any handle is a handle of it.
#[allow(unreachable_pub, reason = "generated code names it")]
pub struct Bucket;

/// Names that are listed at once.
const KEYS_AT_ONCE: usize = 1000;

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl Host {
    fn put(&mut self, key: &str, value: Vec<u8>) -> Answer<()> {
        let set = self.write(key, Bytes::from(value), None)?;
        Ok(set.map_err(|refused| Error::Other(refused.to_string())))
    }

    fn look(&mut self, key: &str) -> wasmtime::Result<Option<Vec<u8>>> {
        Ok(self.state()?.get(key).map_err(lost)?.map(Vec::from))
    }
}

impl store::Host for Host {
    fn open(&mut self, identifier: String) -> Answer<Resource<Bucket>> {
        match identifier.as_str() {
            "" | "default" => Ok(Ok(self.wasi().table().push(Bucket)?)),
            _ => Ok(Err(Error::NoSuchStore)),
        }
    }
}

impl store::HostBucket for Host {
    fn get(&mut self, _: Resource<Bucket>, key: String) -> Answer<Option<Vec<u8>>> {
        self.look(&key).map(Ok)
    }

    fn set(&mut self, _: Resource<Bucket>, key: String, value: Vec<u8>) -> Answer<()> {
        self.put(&key, value)
    }

    fn delete(&mut self, _: Resource<Bucket>, key: String) -> Answer<()> {
        self.state()?.delete(&key).map_err(lost)?;
        Ok(Ok(()))
    }

    fn exists(&mut self, _: Resource<Bucket>, key: String) -> Answer<bool> {
        Ok(Ok(self.look(&key)?.is_some()))
    }

    fn list_keys(&mut self, _: Resource<Bucket>, cursor: Option<u64>) -> Answer<KeyResponse> {
        let names = self.state()?.names("").map_err(lost)?;
        let begin = usize::try_from(cursor.unwrap_or(0)).unwrap_or(usize::MAX).min(names.len());
        let end = names.len().min(begin + KEYS_AT_ONCE);
        let keys = names[begin..end].iter().map(|name| String::from(&**name)).collect();
        Ok(Ok(KeyResponse { keys, cursor: (end < names.len()).then_some(end as u64) }))
    }

    fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.wasi().table().delete(bucket)?;
        Ok(())
    }
}

impl atomics::Host for Host {
    /// Numbers are decimal text, as other hosts have them.
    fn increment(&mut self, _: Resource<Bucket>, key: String, delta: u64) -> Answer<u64> {
        let old = match self.look(&key)? {
            None => Some(0),
            Some(value) => std::str::from_utf8(&value).ok().and_then(|text| text.parse::<u64>().ok()),
        };
        let Some(old) = old else { return Ok(Err(Error::Other("the value is not a number".to_owned()))) };
        let Some(new) = old.checked_add(delta) else {
            return Ok(Err(Error::Other("the number would be above 64 bits".to_owned())));
        };
        Ok(self.put(&key, new.to_string().into_bytes())?.map(|()| new))
    }
}

impl batch::Host for Host {
    fn get_many(&mut self, _: Resource<Bucket>, keys: Vec<String>) -> Answer<Vec<Option<(String, Vec<u8>)>>> {
        // The same key again is the same value again, in the host's memory: wasmtime counts what comes from a guest only.
        let limits = &self.settings.limits;
        let mut room = limits.border_bytes() + limits.state_bytes;
        let mut found = Vec::new();
        for key in keys {
            let value = self.look(&key)?;
            let bytes = key.len() + value.as_ref().map_or(0, Vec::len);
            let Some(left) = room.checked_sub(bytes) else {
                return Ok(Err(Error::Other("this is more than may be asked for at once".to_owned())));
            };
            room = left;
            found.push(value.map(|value| (key, value)));
        }
        Ok(Ok(found))
    }

    fn set_many(&mut self, _: Resource<Bucket>, pairs: Vec<(String, Vec<u8>)>) -> Answer<()> {
        for (key, value) in pairs {
            if let Err(refused) = self.put(&key, value)? {
                return Ok(Err(refused));
            }
        }
        Ok(Ok(()))
    }

    fn delete_many(&mut self, _: Resource<Bucket>, keys: Vec<String>) -> Answer<()> {
        for key in keys {
            self.state()?.delete(&key).map_err(lost)?;
        }
        Ok(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Instant;

    use sandbar_reading::{Attributes, ContentType, Lineage, Reading, ReadingId, Timestamp};

    use super::*;
    use crate::limits::Limits;
    use crate::{Permissions, Settings, StateUnavailable, StateView};

    struct Empty;

    impl StateView for Empty {
        fn get(&self, _: &str, _: Timestamp) -> Result<Option<Bytes>, StateUnavailable> {
            Ok(None)
        }

        fn names(&self, _: &str, _: Timestamp) -> Result<Vec<Box<str>>, StateUnavailable> {
            Ok(Vec::new())
        }

        fn used(&self, _: Timestamp) -> Result<usize, StateUnavailable> {
            Ok(0)
        }
    }

    /// In a call.
    fn host() -> Host {
        let settings = Settings {
            route: "r".parse().unwrap(),
            config: BTreeMap::new(),
            limits: Limits { value_bytes: 4, ..Limits::default() },
            permissions: Permissions::default(),
        };
        let reading = Reading {
            id: ReadingId::from_u128(5),
            ingress: "web".parse().unwrap(),
            topic: "t".parse().unwrap(),
            device: None,
            time: Timestamp::from_millis(1),
            content_type: ContentType::TEXT,
            attributes: Attributes::new(),
            payload: "x".into(),
            lineage: Lineage::default(),
        };
        let mut host = Host::new(Arc::new(settings), Instant::now());
        host.begin(&reading, Arc::new(Empty), Timestamp::from_millis(1), Instant::now(), None);
        host
    }

    fn open(host: &mut Host) -> Resource<Bucket> {
        store::Host::open(host, "default".to_owned()).unwrap().unwrap()
    }

    fn pair(key: &str, value: &str) -> (String, Vec<u8>) {
        (key.to_owned(), value.as_bytes().to_vec())
    }

    #[test]
    fn many_at_once_are_set_found_and_deleted() {
        let mut host = host();
        let bucket = open(&mut host);
        let pairs = vec![pair("a", "1"), pair("b", "2"), pair("c", "3")];
        batch::Host::set_many(&mut host, bucket, pairs).unwrap().unwrap();
        let bucket = open(&mut host);
        batch::Host::delete_many(&mut host, bucket, vec!["b".to_owned(), "x".to_owned()]).unwrap().unwrap();
        let bucket = open(&mut host);
        let keys = ["c", "b", "a"].map(str::to_owned).to_vec();
        let found = batch::Host::get_many(&mut host, bucket, keys).unwrap().unwrap();
        assert_eq!(found, [Some(pair("c", "3")), None, Some(pair("a", "1"))]);
        assert!(matches!(store::Host::open(&mut host, "other".to_owned()).unwrap(), Err(Error::NoSuchStore)));
    }

    #[test]
    fn what_a_limit_refuses_is_told_to_the_handler_and_said_in_its_log() {
        let mut host = host();
        let bucket = open(&mut host);
        let pairs = vec![pair("a", "1"), pair("large", "12345"), pair("b", "2")];
        let refused = batch::Host::set_many(&mut host, bucket, pairs).unwrap();
        assert!(matches!(refused, Err(Error::Other(why)) if why == "a value may have 4 bytes"));
        let bucket = open(&mut host);
        store::HostBucket::set(&mut host, bucket, "larger".to_owned(), vec![0; 6]).unwrap().unwrap_err();
        let (writes, refused) = host.finish();
        assert_eq!((writes.len(), refused), (1, 2), "what came before stays, what came after was not tried");
        let lines: Vec<_> = host.logs.take().into_iter().map(|line| line.message).collect();
        let expected = "2 writes to the state were refused, the first of `large`: a value may have 4 bytes";
        assert_eq!(lines, [Box::<str>::from(expected)]);
    }

    #[test]
    fn keys_are_listed_in_parts_and_numbers_count_as_text() {
        let mut host = host();
        for key in 0..=KEYS_AT_ONCE {
            assert!(host.put(&format!("{key:05}"), b"9".to_vec()).unwrap().is_ok());
        }
        let list = |host: &mut Host, cursor| {
            let bucket = open(host);
            store::HostBucket::list_keys(host, bucket, cursor).unwrap().unwrap()
        };
        let first = list(&mut host, None);
        assert_eq!((first.keys.len(), first.cursor), (KEYS_AT_ONCE, Some(KEYS_AT_ONCE as u64)));
        let rest = list(&mut host, first.cursor);
        assert_eq!((rest.keys, rest.cursor), (vec!["01000".to_owned()], None));
        let bucket = open(&mut host);
        assert_eq!(atomics::Host::increment(&mut host, bucket, "00000".to_owned(), 2).unwrap().unwrap(), 11);
        assert_eq!(host.look("00000").unwrap().unwrap(), b"11");
        host.put("word", b"x".to_vec()).unwrap().unwrap();
        let bucket = open(&mut host);
        let refused = atomics::Host::increment(&mut host, bucket, "word".to_owned(), 1).unwrap();
        assert!(matches!(refused, Err(Error::Other(why)) if why == "the value is not a number"));
    }
}
