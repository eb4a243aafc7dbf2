//! The rows of what is known of devices. Keys begin with the device's id, so that all of a device is one range.

use std::borrow::Cow;

use bytes::Bytes;
use redb::TableDefinition;
use sandbar_reading::{DeliveryId, Name, Timestamp};
use serde::{Deserialize, Serialize};

use super::{CommandRow, CommandState, DeviceRow, NO_ROUTE, Presence, Resource};
use crate::key;
use crate::row::Damaged;

type Row = &'static [u8];

/// Id → [`Known`]
pub(crate) const DEVICES: TableDefinition<'_, &str, Row> = TableDefinition::new("devices");
/// Id → [`Values`], the last of its resources
pub(crate) const TWINS: TableDefinition<'_, &str, Row> = TableDefinition::new("device resources");
/// Id → [`Values`], what its resources should be
pub(crate) const DESIRED: TableDefinition<'_, &str, Row> = TableDefinition::new("device desires");
/// [`of_command`] → [`Command`]
pub(crate) const COMMANDS: TableDefinition<'_, Row, Row> = TableDefinition::new("device commands");
/// `expires of_command` → nothing; of commands that have not ended
pub(crate) const COMMANDS_DUE: TableDefinition<'_, Row, ()> = TableDefinition::new("device commands due");

/// Of the table `meta`: the last reading that is in the rows.
pub(crate) const SEEN_ROW: &str = "devices seen";

#[derive(Serialize, Deserialize)]
pub(crate) struct Known<'a> {
    name: Option<&'a str>,
    is_named: bool,
    kind: Option<&'a str>,
    #[serde(borrow)]
    labels: Vec<(&'a str, &'a str)>,
    #[serde(borrow)]
    ingresses: Vec<&'a str>,
    first_seen: u64,
    last_seen: u64,
    presence: u8,
    since: u64,
    silence_ms: Option<u64>,
}

impl<'a> Known<'a> {
    pub(crate) fn of(device: &'a DeviceRow) -> Self {
        Self {
            name: device.name.as_deref(),
            is_named: device.is_named,
            kind: device.kind.as_deref(),
            labels: device.labels.iter().map(|(key, value)| (&**key, &**value)).collect(),
            ingresses: device.ingresses.iter().map(Name::as_str).collect(),
            first_seen: device.first_seen.nanos(),
            last_seen: device.last_seen.nanos(),
            presence: match device.presence {
                Presence::Online => 0,
                Presence::Offline => 1,
                Presence::Lost => 2,
            },
            since: device.since.nanos(),
            silence_ms: device.silence_ms,
        }
    }

    pub(crate) fn into_device(self, id: &str) -> Result<DeviceRow, Damaged> {
        let ingress = |name: &str| Name::parse_ingress(name).map_err(|_| Damaged { table: "devices" });
        Ok(DeviceRow {
            id: id.into(),
            name: self.name.map(Into::into),
            is_named: self.is_named,
            kind: self.kind.map(Into::into),
            labels: self.labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect(),
            ingresses: self.ingresses.into_iter().map(ingress).collect::<Result<_, _>>()?,
            first_seen: Timestamp::from_nanos(self.first_seen),
            last_seen: Timestamp::from_nanos(self.last_seen),
            presence: match self.presence {
                0 => Presence::Online,
                1 => Presence::Offline,
                2 => Presence::Lost,
                _ => return Err(Damaged { table: "devices" }),
            },
            since: Timestamp::from_nanos(self.since),
            silence_ms: self.silence_ms,
        })
    }
}

/// Of resources, by their names.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Values<'a>(#[serde(borrow)] pub(crate) Vec<(Cow<'a, str>, u64, Cow<'a, str>)>);

impl Values<'_> {
    /// False if there is no room for one more.
    pub(crate) fn set(&mut self, name: &str, time: Timestamp, value: &str, max: usize) -> bool {
        let new = (Cow::Owned(name.to_owned()), time.nanos(), Cow::Owned(value.to_owned()));
        match self.0.binary_search_by(|(other, ..)| (**other).cmp(name)) {
            Ok(at) => {
                self.0[at] = new;
                true
            }
            Err(_) if self.0.len() >= max => false,
            Err(at) => {
                self.0.insert(at, new);
                true
            }
        }
    }

    pub(crate) fn into_resources(self) -> Vec<Resource> {
        let resource = |(name, time, value): (Cow<'_, str>, u64, Cow<'_, str>)| Resource {
            name: (*name).into(),
            time: Timestamp::from_nanos(time),
            value: (*value).into(),
        };
        self.0.into_iter().map(resource).collect()
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Command<'a> {
    name: &'a str,
    state: u8,
    asks: bool,
    route: &'a str,
    desired: Option<&'a str>,
    created: u64,
    expires: Option<u64>,
    changed: u64,
    cause: Option<&'a str>,
    #[serde(borrow)]
    answer: Option<(&'a str, &'a [u8])>,
}

impl<'a> Command<'a> {
    pub(crate) fn of(command: &'a CommandRow) -> Self {
        Self {
            name: &command.name,
            state: match command.state {
                CommandState::Queued => 0,
                CommandState::Acknowledged => 1,
                CommandState::Failed => 2,
                CommandState::Expired => 3,
                CommandState::Cancelled => 4,
                CommandState::Sent => 5,
            },
            asks: command.asks,
            route: command.route.as_ref().map_or(NO_ROUTE, Name::as_str),
            desired: command.desired.as_deref(),
            created: command.created.nanos(),
            expires: command.expires.map(Timestamp::nanos),
            changed: command.changed.nanos(),
            cause: command.cause.as_deref(),
            answer: command
                .answer
                .as_ref()
                .map(|(content_type, answer)| (content_type.as_str(), &answer[..])),
        }
    }

    pub(crate) fn into_command(self, device: &str, id: u128) -> Result<CommandRow, Damaged> {
        let damaged = Damaged { table: "device commands" };
        let route = (self.route != NO_ROUTE).then(|| self.route.parse::<Name>()).transpose();
        let answer = self.answer.map(|(content_type, answer)| {
            Ok::<_, Damaged>((
                content_type.parse().map_err(|_| Damaged { table: "device commands" })?,
                Bytes::copy_from_slice(answer),
            ))
        });
        Ok(CommandRow {
            id: DeliveryId::from_u128(id),
            device: device.into(),
            name: self.name.into(),
            state: match self.state {
                0 => CommandState::Queued,
                1 => CommandState::Acknowledged,
                2 => CommandState::Failed,
                3 => CommandState::Expired,
                4 => CommandState::Cancelled,
                5 => CommandState::Sent,
                _ => return Err(damaged),
            },
            asks: self.asks,
            route: route.map_err(|_| Damaged { table: "device commands" })?,
            desired: self.desired.map(Into::into),
            created: Timestamp::from_nanos(self.created),
            expires: self.expires.map(Timestamp::from_nanos),
            changed: Timestamp::from_nanos(self.changed),
            cause: self.cause.map(str::to_owned),
            answer: answer.transpose()?,
        })
    }
}

/// `device NUL`: all commands of the device.
pub(crate) fn commands_of(device: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(device.len() + 17);
    key::escape(&mut key, device);
    key.push(0);
    key
}

/// `device NUL id`
pub(crate) fn of_command(device: &str, id: u128) -> Vec<u8> {
    let mut key = commands_of(device);
    key.extend_from_slice(&id.to_be_bytes());
    key
}

/// The parts of an [`of_command`] key.
pub(crate) fn split_command(key: &[u8]) -> Result<(String, u128), Damaged> {
    let split = || {
        let (device, id) = key.split_last_chunk::<16>()?;
        let (0, device) = device.split_last()? else { return None };
        Some((key::unescape(device)?, u128::from_be_bytes(*id)))
    };
    split().ok_or(Damaged { table: "device commands" })
}

/// `expires of_command`
pub(crate) fn due(expires: Timestamp, command: &[u8]) -> Vec<u8> {
    let mut key = expires.nanos().to_be_bytes().to_vec();
    key.extend_from_slice(command);
    key
}

/// The parts of a [`due`] key.
pub(crate) fn split_due(key: &[u8]) -> Result<(Timestamp, String, u128), Damaged> {
    let (expires, command) = key.split_first_chunk::<8>().ok_or(Damaged { table: "device commands due" })?;
    let (device, id) = split_command(command)?;
    Ok((Timestamp::from_nanos(u64::from_be_bytes(*expires)), device, id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row;

    #[test]
    fn rows_are_read_as_they_were_written() {
        let device = DeviceRow {
            id: "d1".into(),
            name: Some("Boiler".into()),
            is_named: true,
            kind: Some("robot".into()),
            labels: vec![("room".into(), "küche".into())],
            ingresses: vec!["mqtt".parse().unwrap()],
            first_seen: Timestamp::from_nanos(1),
            last_seen: Timestamp::from_nanos(2),
            presence: Presence::Lost,
            since: Timestamp::from_nanos(3),
            silence_ms: Some(120_000),
        };
        let mut written = Vec::new();
        row::append(&mut written, &Known::of(&device));
        let read = row::read::<Known<'_>>(&written, "devices").unwrap().into_device("d1").unwrap();
        assert_eq!(read, device);
        let command = CommandRow {
            id: DeliveryId::from_u128(7),
            device: "a\0b".into(),
            name: "set".into(),
            state: CommandState::Expired,
            asks: true,
            route: Some("alarm".parse().unwrap()),
            desired: Some("led".into()),
            created: Timestamp::from_nanos(1),
            expires: Some(Timestamp::from_nanos(9)),
            changed: Timestamp::from_nanos(2),
            cause: Some("late".to_owned()),
            answer: Some((sandbar_reading::ContentType::JSON, "{}".into())),
        };
        let mut written = Vec::new();
        row::append(&mut written, &Command::of(&command));
        let (device, id) = split_command(&of_command("a\0b", 7)).unwrap();
        let read = row::read::<Command<'_>>(&written, "c").unwrap().into_command(&device, id).unwrap();
        assert_eq!(read, command);
        let due = due(Timestamp::from_nanos(9), &of_command("a\0b", 7));
        assert_eq!(split_due(&due).unwrap(), (Timestamp::from_nanos(9), "a\0b".to_owned(), 7));
    }

    #[test]
    fn the_first_resources_stay_when_there_are_too_many() {
        let mut values = Values::default();
        let now = Timestamp::from_nanos(1);
        assert!(values.set("b", now, "1", 2) && values.set("a", now, "2", 2));
        assert!(!values.set("c", now, "3", 2));
        assert!(values.set("b", now, "4", 2));
        let names: Vec<_> = values.into_resources().into_iter().map(|r| (r.name, r.value)).collect();
        assert_eq!(names, [("a".into(), "2".into()), ("b".into(), "4".into())]);
    }
}
