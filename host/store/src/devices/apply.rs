//! What each change of what is known of devices writes, within the transaction that it shares with others.

use redb::ReadableTable;
use sandbar_reading::{Delivery, DeliveryId, Name, ReadingId, Target, Timestamp};

use super::row::{
    COMMANDS, COMMANDS_DUE, Command, DESIRED, DEVICES, Known, SEEN_ROW, TWINS, Values, commands_of, due,
    of_command, split_command, split_due,
};
use super::{
    COMMANDS_KEPT, CommandRow, CommandState, DevicesBatch, DevicesWork, HandedOver, NO_ROUTE, NewCommand,
    RESOURCES_MAX,
};
use crate::apply::{Batch, Ids, Made};
use crate::damaged::readable;
use crate::error::StoreError;
use crate::key;
use crate::queue::Done;
use crate::row::{self, Damaged, file_of_queued};
use crate::tables::META;

type Result<T, E = redb::Error> = std::result::Result<T, E>;

impl Batch<'_> {
    pub(crate) fn devices(&mut self, work: DevicesWork, ids: &mut Ids) -> Result<Done> {
        match work {
            DevicesWork::Batch(batch) => self.devices_batch(batch, ids)?,
            DevicesWork::Remove(device) => self.forget_device(&device)?,
            DevicesWork::Command(command) => self.new_command(command, ids.next())?,
            DevicesWork::HandOver { sink, handed } => self.hand_over(sink, handed)?,
            DevicesWork::Sent { device, id } => self.command_sent(&device, id)?,
            DevicesWork::End { device, id, state, cause } => {
                return self.end_command(&device, id, state, cause.as_deref());
            }
            DevicesWork::Answer { device, id, answer } => self.change_command(&device, id, |command| {
                command.answer = Some(answer);
                command.state = CommandState::Acknowledged;
                command.cause = None;
            })?,
            DevicesWork::Desire { device, resource, value } => {
                return self.desire(&device, &resource, value.as_deref());
            }
        }
        Ok(Ok(false))
    }

    fn devices_batch(&mut self, batch: DevicesBatch, ids: &mut Ids) -> Result<()> {
        let transaction = self.tables.transaction;
        if !batch.rows.is_empty() {
            let mut table = transaction.open_table(DEVICES)?;
            for device in &batch.rows {
                self.row.clear();
                row::append(&mut self.row, &Known::of(device));
                table.insert(&*device.id, &self.row[..])?;
            }
        }
        if !batch.resources.is_empty() {
            let mut table = transaction.open_table(TWINS)?;
            for (device, resources) in &batch.resources {
                let old = table.get(&**device)?.map(|old| old.value().to_vec()).unwrap_or_default();
                let mut values = readable(values(&old, "device resources")).unwrap_or_default();
                for resource in resources {
                    values.set(&resource.name, resource.time, &resource.value, RESOURCES_MAX);
                }
                self.row.clear();
                row::append(&mut self.row, &values);
                table.insert(&**device, &self.row[..])?;
            }
        }
        if let Some(seen) = batch.seen {
            transaction.open_table(META)?.insert(SEEN_ROW, &seen.as_u128().to_be_bytes()[..])?;
        }
        for accept in batch.readings {
            self.accept(accept, ids)?;
        }
        Ok(())
    }

    fn forget_device(&mut self, device: &str) -> Result<()> {
        let transaction = self.tables.transaction;
        transaction.open_table(DEVICES)?.remove(device)?;
        transaction.open_table(TWINS)?.remove(device)?;
        transaction.open_table(DESIRED)?.remove(device)?;
        let mut commands = transaction.open_table(COMMANDS)?;
        let begin = commands_of(device);
        let mut gone = Vec::new();
        for row in commands.range(&begin[..]..&key::behind(&begin)[..])? {
            let (key, row) = row?;
            let command = split_command(key.value()).and_then(|(_, id)| command(device, id, row.value()));
            gone.push((key.value().to_vec(), readable(command).and_then(|command| command.expires)));
        }
        for (key, expires) in gone {
            commands.remove(&key[..])?;
            if let Some(expires) = expires {
                transaction.open_table(COMMANDS_DUE)?.remove(&due(expires, &key)[..])?;
            }
        }
        Ok(())
    }

    fn new_command(&mut self, new: NewCommand, made: Made) -> Result<()> {
        let Made { id, file } = made;
        let NewCommand { device, message, expires, asks, desired } = new;
        let row = CommandRow {
            id: DeliveryId::from_u128(id),
            name: message.topic.as_str().into(),
            state: CommandState::Queued,
            asks,
            route: None,
            desired,
            created: self.now,
            expires,
            changed: self.now,
            cause: None,
            answer: None,
            device: device.clone(),
        };
        self.write_command(&row)?;
        let delivery = Delivery {
            id: row.id,
            reading: ReadingId::from_u128(id),
            route: NO_ROUTE.parse().expect("it is a name"),
            time: self.now,
            message,
        };
        self.put(Target::Device(device), delivery, file)
    }

    /// What has left the sink's outbox was handed over before, or discarded, and is passed over.
    fn hand_over(&mut self, sink: Name, handed: Vec<HandedOver>) -> Result<()> {
        let sink = Target::Sink(sink);
        for HandedOver { device, delivery, expires } in handed {
            key::queued(&mut self.key, &sink, delivery.id.as_u128());
            let waited = self.tables.outbox()?.remove(&self.key[..])?.map(|row| file_of_queued(row.value()));
            let Some(file) = waited else { continue };
            // What a damaged row referred to stays.
            let file = readable(file).flatten();
            self.ledger.outbox -= 1;
            let command = self.command_put_out(&device, &delivery, expires);
            self.write_command(&command)?;
            self.put(Target::Device(device), delivery, file)?;
            // The command refers to it now.
            self.refer_no_more(file)?;
        }
        Ok(())
    }

    fn command_put_out(&self, device: &str, delivery: &Delivery, expires: Option<Timestamp>) -> CommandRow {
        CommandRow {
            id: delivery.id,
            device: device.into(),
            name: delivery.message.topic.as_str().into(),
            state: CommandState::Queued,
            asks: false,
            route: Some(delivery.route.clone()).filter(|route: &Name| route.as_str() != NO_ROUTE),
            desired: None,
            created: self.now,
            expires,
            changed: self.now,
            cause: None,
            answer: None,
        }
    }

    /// A delivery to a device is a command, whoever put it out: it waits, for the first time or once more.
    pub(crate) fn command_queued(&mut self, device: &str, delivery: &Delivery) -> Result<()> {
        let id = delivery.id.as_u128();
        let command = match self.command(device, id)? {
            // It was ordered just now.
            Some(command) if command.state.waits() => None,
            Some(command) => Some(CommandRow {
                state: CommandState::Queued,
                expires: None,
                changed: self.now,
                cause: None,
                ..command
            }),
            None => Some(self.command_put_out(device, delivery, None)),
        };
        if let Some(command) = command {
            self.write_command(&command)?;
        }
        if id.is_multiple_of(PRUNE_EVERY) { self.prune_commands(device) } else { Ok(()) }
    }

    fn command_sent(&mut self, device: &str, id: DeliveryId) -> Result<()> {
        let command = self.command(device, id.as_u128())?;
        let Some(command) = command.filter(|command| command.state == CommandState::Queued) else {
            return Ok(());
        };
        self.write_command(&CommandRow { state: CommandState::Sent, changed: self.now, ..command })
    }

    /// It has left the outbox.
    pub(crate) fn command_ended(
        &mut self,
        device: &str,
        id: DeliveryId,
        state: CommandState,
        cause: Option<&str>,
    ) -> Result<()> {
        self.change_command(device, id, |command| {
            command.state = state;
            command.cause = cause.map(str::to_owned);
        })
    }

    fn end_command(
        &mut self,
        device: &str,
        id: DeliveryId,
        state: CommandState,
        cause: Option<&str>,
    ) -> Result<Done> {
        // Of one whose row is damaged only the delivery is known.
        let command = self.command(device, id.as_u128())?;
        key::queued(&mut self.key, &Target::Device(device.into()), id.as_u128());
        let waited = self.tables.outbox()?.remove(&self.key[..])?.map(|row| file_of_queued(row.value()));
        if let Some(file) = waited {
            self.ledger.outbox -= 1;
            self.refer_no_more(readable(file).flatten())?;
        }
        let Some(command) = command else {
            self.forget_due(device, id)?;
            return Ok(Err(StoreError::NotFound));
        };
        let unanswered = command.asks && command.answer.is_none() && state == CommandState::Expired;
        let is_open = match command.state {
            CommandState::Acknowledged => unanswered,
            state => state.waits(),
        };
        if !is_open {
            return Ok(Err(StoreError::Stale));
        }
        self.command_ended(device, id, state, cause)?;
        Ok(Ok(false))
    }

    /// Nothing, if it is not known any more.
    fn change_command(
        &mut self,
        device: &str,
        id: DeliveryId,
        change: impl FnOnce(&mut CommandRow),
    ) -> Result<()> {
        let Some(mut command) = self.command(device, id.as_u128())? else { return Ok(()) };
        change(&mut command);
        command.changed = self.now;
        self.write_command(&command)
    }

    fn command(&mut self, device: &str, id: u128) -> Result<Option<CommandRow>> {
        let table = self.tables.transaction.open_table(COMMANDS)?;
        let row = table.get(&of_command(device, id)[..])?;
        Ok(row.and_then(|row| readable(command(device, id, row.value()))))
    }

    fn write_command(&mut self, command: &CommandRow) -> Result<()> {
        let key = of_command(&command.device, command.id.as_u128());
        self.row.clear();
        row::append(&mut self.row, &Command::of(command));
        let transaction = self.tables.transaction;
        transaction.open_table(COMMANDS)?.insert(&key[..], &self.row[..])?;
        self.commands_written += 1;
        if let Some(expires) = command.expires {
            let due = due(expires, &key);
            let mut table = transaction.open_table(COMMANDS_DUE)?;
            let awaited = command.asks && command.answer.is_none();
            match command.state {
                CommandState::Queued | CommandState::Sent => table.insert(&due[..], ())?,
                CommandState::Acknowledged if awaited => table.insert(&due[..], ())?,
                _ => table.remove(&due[..])?,
            };
        }
        Ok(())
    }

    /// Forgets those that have ended, but for the newest; of very many a part.
    fn prune_commands(&mut self, device: &str) -> Result<()> {
        let transaction = self.tables.transaction;
        let mut commands = transaction.open_table(COMMANDS)?;
        let begin = commands_of(device);
        let mut oldest = Vec::new();
        let rows = commands.range(&begin[..]..&key::behind(&begin)[..])?;
        for row in rows.take(PRUNED_MAX + COMMANDS_KEPT) {
            let (key, row) = row?;
            let command = split_command(key.value()).and_then(|(_, id)| command(device, id, row.value()));
            oldest.extend(readable(command).map(|command| (key.value().to_vec(), command)));
        }
        oldest.truncate(oldest.len().saturating_sub(COMMANDS_KEPT));
        for (key, command) in oldest.into_iter().filter(|(_, command)| !command.state.waits()) {
            commands.remove(&key[..])?;
            // One whose answer did not come has one yet.
            if let Some(expires) = command.expires {
                transaction.open_table(COMMANDS_DUE)?.remove(&due(expires, &key)[..])?;
            }
        }
        Ok(())
    }

    /// That a command is due which is not known any more: it would be looked at for ever.
    fn forget_due(&mut self, device: &str, id: DeliveryId) -> Result<()> {
        let mut table = self.tables.transaction.open_table(COMMANDS_DUE)?;
        let end = self.now.nanos().saturating_add(1).to_be_bytes();
        let mut found = None;
        for row in table.range(..&end[..])? {
            let (due, _) = row?;
            let Some((_, of, command)) = readable(split_due(due.value())) else { continue };
            if (of.as_str(), command) == (device, id.as_u128()) {
                found = Some(due.value().to_vec());
                break;
            }
        }
        if let Some(due) = found {
            table.remove(&due[..])?;
        }
        Ok(())
    }

    fn desire(&mut self, device: &str, resource: &str, value: Option<&str>) -> Result<Done> {
        let mut table = self.tables.transaction.open_table(DESIRED)?;
        let old = table.get(device)?.map(|old| old.value().to_vec()).unwrap_or_default();
        let mut values = readable(values(&old, "device desires")).unwrap_or_default();
        let done = match value {
            Some(value) => values.set(resource, self.now, value, RESOURCES_MAX),
            None => {
                let before = values.0.len();
                values.0.retain(|(name, ..)| name != resource);
                values.0.len() < before
            }
        };
        if !done {
            return Ok(Err(if value.is_some() { StoreError::Stale } else { StoreError::NotFound }));
        }
        self.row.clear();
        row::append(&mut self.row, &values);
        table.insert(device, &self.row[..])?;
        Ok(Ok(false))
    }
}

/// One of so many new commands of a device is a reason to look for old ones; ids end in a random number.
const PRUNE_EVERY: u128 = 16;

/// How many are forgotten at once: nobody waits for more.
const PRUNED_MAX: usize = 1024;

/// Of a row, or of none.
pub(super) fn values<'a>(row: &'a [u8], table: &'static str) -> Result<Values<'a>, Damaged> {
    match row {
        [] => Ok(Values::default()),
        row => row::read(row, table),
    }
}

pub(super) fn command(device: &str, id: u128, row: &[u8]) -> Result<CommandRow, Damaged> {
    row::read::<Command<'_>>(row, "device commands")?.into_command(device, id)
}
