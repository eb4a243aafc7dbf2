//! What may be changed and asked of what is known of devices.

use bytes::Bytes;
use redb::{ReadTransaction, ReadableTable, TableError};
use sandbar_reading::{ContentType, DeliveryId, Name, ReadingId, Refused};

use super::apply::{command, values};
use super::row::{
    COMMANDS, COMMANDS_DUE, DESIRED, DEVICES, Known, SEEN_ROW, TWINS, commands_of, due, of_command,
    split_command, split_due,
};
use super::{
    CommandDue, CommandRow, CommandState, DeviceRow, DevicesBatch, DevicesWork, HandedOver, NewCommand,
    Resource,
};
use crate::damaged::readable;
use crate::error::StoreError;
use crate::queue::Work;
use crate::store::Store;
use crate::tables::META;
use crate::{key, row};

impl Store {
    /// Writes what the registry has learnt. Done in the order of the calls, as long as there is room at each.
    pub fn put_devices(
        &self,
        batch: DevicesBatch,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + 'static + use<> {
        self.own(Work::Devices(Box::new(DevicesWork::Batch(batch))))
    }

    /// The device, its resources and its commands are forgotten.
    pub async fn remove_device(&self, device: &str) -> Result<(), StoreError> {
        self.devices_work(DevicesWork::Remove(device.into())).await
    }

    /// Puts a command into the outbox: its id, and what resolves once it is on disk.
    pub fn put_command(
        &self,
        command: NewCommand,
    ) -> Result<(DeliveryId, impl Future<Output = Result<(), Refused>> + Send + 'static + use<>), Refused>
    {
        let work = Work::Devices(Box::new(DevicesWork::Command(command)));
        let (id, done) = self.push_from_driver(work)?;
        let committed = async move {
            crate::store::result(done.await)?;
            Ok(())
        };
        Ok((DeliveryId::from_u128(id), committed))
    }

    /// Deliveries of a sink become commands, in order and in one transaction: each leaves the sink's outbox
    /// for its device's, and keeps its id. Those that are not in the sink's any more are passed over.
    pub async fn hand_over(&self, sink: Name, handed: Vec<HandedOver>) -> Result<(), StoreError> {
        self.devices_work(DevicesWork::HandOver { sink, handed }).await
    }

    /// The device has a command and is to say how it went.
    pub async fn command_sent(&self, device: &str, id: DeliveryId) -> Result<(), StoreError> {
        self.devices_work(DevicesWork::Sent { device: device.into(), id }).await
    }

    /// Ends a command that waits, or is unanswered: [`StoreError::Stale`] if it has ended already.
    pub async fn end_command(
        &self,
        device: &str,
        id: DeliveryId,
        state: CommandState,
        cause: Option<String>,
    ) -> Result<(), StoreError> {
        self.devices_work(DevicesWork::End { device: device.into(), id, state, cause }).await
    }

    /// What the device answered to a command.
    pub async fn command_answered(
        &self,
        device: &str,
        id: DeliveryId,
        answer: (ContentType, Bytes),
    ) -> Result<(), StoreError> {
        self.devices_work(DevicesWork::Answer { device: device.into(), id, answer }).await
    }

    /// A resource of a device is to have this value (JSON text), or no value any more:
    /// [`StoreError::Stale`] if there are too many, [`StoreError::NotFound`] if there was none to take back.
    pub async fn desire(
        &self,
        device: &str,
        resource: &str,
        value: Option<Box<str>>,
    ) -> Result<(), StoreError> {
        self.devices_work(DevicesWork::Desire { device: device.into(), resource: resource.into(), value })
            .await
    }

    /// All devices, by id; those whose rows are damaged are left out.
    pub fn devices(&self) -> Result<Vec<DeviceRow>, StoreError> {
        self.shared().ask(|read| {
            let Some(table) = opened(read.open_table(DEVICES))? else { return Ok(Vec::new()) };
            let mut devices = Vec::new();
            for row in table.iter()? {
                let (id, row) = row?;
                let known = row::read::<Known<'_>>(row.value(), "devices");
                devices.extend(readable(known.and_then(|known| known.into_device(id.value()))));
            }
            Ok(devices)
        })
    }

    /// The last reading that is in the rows of devices.
    pub fn devices_seen(&self) -> Result<Option<ReadingId>, StoreError> {
        self.shared().ask(|read| {
            let row = read.open_table(META)?.get(SEEN_ROW)?;
            let id = row.and_then(|row| row.value().try_into().ok()).map(u128::from_be_bytes);
            Ok(id.map(ReadingId::from_u128))
        })
    }

    /// The last values of a device's resources, by name.
    pub fn resources(&self, device: &str) -> Result<Vec<Resource>, StoreError> {
        self.shared().ask(|read| resources(read, TWINS, device, "device resources"))
    }

    /// What a device's resources should be, by name.
    pub fn desired(&self, device: &str) -> Result<Vec<Resource>, StoreError> {
        self.shared().ask(|read| resources(read, DESIRED, device, "device desires"))
    }

    /// Whether any of a device's resources should have a certain value.
    pub fn has_desired(&self, device: &str) -> Result<bool, StoreError> {
        Ok(!self.desired(device)?.is_empty())
    }

    pub fn command(&self, device: &str, id: DeliveryId) -> Result<Option<CommandRow>, StoreError> {
        self.shared().ask(|read| {
            let Some(table) = opened(read.open_table(COMMANDS))? else { return Ok(None) };
            let row = table.get(&of_command(device, id.as_u128())[..])?;
            Ok(row.map(|row| command(device, id.as_u128(), row.value())).transpose()?)
        })
    }

    /// The newest `limit` commands of a device of which `wanted` is true, newest first, behind `cursor`.
    pub fn commands(
        &self,
        device: &str,
        cursor: Option<DeliveryId>,
        limit: usize,
        wanted: &dyn Fn(&CommandRow) -> bool,
    ) -> Result<Vec<CommandRow>, StoreError> {
        self.shared().ask(|read| {
            let Some(table) = opened(read.open_table(COMMANDS))? else { return Ok(Vec::new()) };
            let begin = commands_of(device);
            let end = match cursor {
                Some(cursor) => of_command(device, cursor.as_u128()),
                None => key::behind(&begin),
            };
            let mut commands = Vec::new();
            for row in table.range(&begin[..]..&end[..])?.rev() {
                let (key, row) = row?;
                let command = split_command(key.value()).and_then(|(_, id)| command(device, id, row.value()));
                let Some(command) = readable(command) else { continue };
                if wanted(&command) {
                    commands.push(command);
                }
                if commands.len() == limit {
                    break;
                }
            }
            Ok(commands)
        })
    }

    /// The first `limit` commands that have not ended, by when they expire, behind `after`.
    pub fn commands_due(
        &self,
        after: Option<&CommandDue>,
        limit: usize,
    ) -> Result<Vec<CommandDue>, StoreError> {
        self.shared().ask(|read| {
            let Some(table) = opened(read.open_table(COMMANDS_DUE))? else { return Ok(Vec::new()) };
            let mut begin = Vec::new();
            if let Some((expires, device, id)) = after {
                begin = due(*expires, &of_command(device, id.as_u128()));
                // The first key behind it.
                begin.push(0);
            }
            let mut commands = Vec::new();
            for row in table.range(&begin[..]..)?.take(limit) {
                let known = readable(split_due(row?.0.value()));
                commands.extend(known.map(|(expires, device, id)| {
                    (expires, device.into_boxed_str(), DeliveryId::from_u128(id))
                }));
            }
            Ok(commands)
        })
    }

    async fn devices_work(&self, work: DevicesWork) -> Result<(), StoreError> {
        self.own(Work::Devices(Box::new(work))).await
    }
}

fn resources(
    read: &ReadTransaction,
    table: redb::TableDefinition<'_, &'static str, &'static [u8]>,
    device: &str,
    name: &'static str,
) -> Result<Vec<Resource>, redb::Error> {
    let Some(table) = opened(read.open_table(table))? else { return Ok(Vec::new()) };
    let row = table.get(device)?;
    let row = row.as_ref().map(|row| row.value()).unwrap_or_default();
    Ok(readable(values(row, name)).unwrap_or_default().into_resources())
}

/// `None` in a file from before there were devices.
fn opened<T>(table: Result<T, TableError>) -> Result<Option<T>, redb::Error> {
    match table {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
