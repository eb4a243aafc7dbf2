//! `wasi:keyvalue` on the key's state: one bucket, whose changes take effect with the handler's outputs.

use bytes::Bytes;
use wasmtime::component::Resource;

use crate::bindings::wasi::keyvalue::store::{Error, KeyResponse};
use crate::bindings::wasi::keyvalue::{atomics, batch, store};
use crate::host::{Host, lost};
use crate::overlay::TooLarge;

/// The only bucket there is; any handle is a handle of it.
#[allow(unreachable_pub, reason = "generated code names it")]
pub struct Bucket;

/// Names that are listed at once.
const KEYS_AT_ONCE: usize = 1000;

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl Host {
    fn put(&mut self, key: &str, value: Vec<u8>) -> Answer<()> {
        let (value_max, state_max) = (self.settings.limits.value_bytes, self.settings.limits.state_bytes);
        let set = self.state()?.set(key, Bytes::from(value), None, value_max, state_max).map_err(lost)?;
        Ok(set.map_err(|refused| {
            Error::Other(match refused {
                TooLarge::Name(bytes) => format!("a key may have {bytes} bytes"),
                TooLarge::Value(bytes) => format!("a value may have {bytes} bytes"),
                TooLarge::State(bytes) => format!("all keys and values together may have {bytes} bytes"),
            })
        }))
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
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            found.push(self.look(&key)?.map(|value| (key, value)));
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
