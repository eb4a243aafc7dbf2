//! The tables of the file, and what is known of them without asking.

use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table,
    TableDefinition, TableError, WriteTransaction,
};

use crate::row;

/// The format that this version writes, and the newest that it reads. 1 had no payloads in files of their own, 2 no
/// commands that are sent.
pub(crate) const FORMAT: u64 = 3;

type Bytes = &'static [u8];

pub(crate) const META: TableDefinition<'_, &str, Bytes> = TableDefinition::new("meta");
/// Id → [`JournalHead`](crate::row::JournalHead), [`ReadingRow`](crate::row::ReadingRow)
pub(crate) const JOURNAL: TableDefinition<'_, u128, Bytes> = TableDefinition::new("journal");
/// [`key::waiting`](crate::key::waiting) → [`WaitingRow`](crate::row::WaitingRow)
pub(crate) const WAITING: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("waiting");
/// [`key::queued`](crate::key::queued) → [`QueuedHead`](crate::row::QueuedHead), [`DeliveryRow`](crate::row::DeliveryRow)
pub(crate) const OUTBOX: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("outbox");
/// Id → [`DeadHead`](crate::row::DeadHead), then the row of the reading or delivery
pub(crate) const DEAD: TableDefinition<'_, u128, Bytes> = TableDefinition::new("dead letters");
/// [`key::state`](crate::key::state) → [`StateRow`](crate::row::StateRow)
pub(crate) const STATE: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("state");
/// [`key::expiry`](crate::key::expiry) → nothing
pub(crate) const EXPIRY: TableDefinition<'_, Bytes, ()> = TableDefinition::new("state expiry");
/// Counts up from the time → entries, one after the other ([`Entry`](crate::trace::Entry))
pub(crate) const TRACE: TableDefinition<'_, u128, Bytes> = TableDefinition::new("trace");
/// A file of a large payload → how many rows refer to it
pub(crate) const PAYLOADS: TableDefinition<'_, &[u8; 32], u64> = TableDefinition::new("payloads");
/// [`key::document`](crate::key::document) → the document
pub(crate) const DOCUMENTS: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("documents");

const FORMAT_ROW: &str = "format";
const LEDGER_ROW: &str = "ledger";
/// Bytes and count of dead letters. The count tells whether a version that does not know of the bytes was at the file.
const DEAD_ROW: &str = "dead letters";

pub(crate) type BytesTable<'t> = Table<'t, Bytes, Bytes>;
pub(crate) type IdTable<'t> = Table<'t, u128, Bytes>;

/// The tables of one transaction, each opened when it is first needed.
pub(crate) struct Tables<'t> {
    pub(crate) transaction: &'t WriteTransaction,
    journal: Option<IdTable<'t>>,
    waiting: Option<BytesTable<'t>>,
    outbox: Option<BytesTable<'t>>,
    dead: Option<IdTable<'t>>,
    state: Option<BytesTable<'t>>,
    expiry: Option<Table<'t, Bytes, ()>>,
    documents: Option<BytesTable<'t>>,
    trace: Option<IdTable<'t>>,
    payloads: Option<Table<'t, &'static [u8; 32], u64>>,
}

macro_rules! table {
    ($name:ident, $definition:ident, $type:ty) => {
        pub(crate) fn $name(&mut self) -> Result<&mut $type, redb::Error> {
            match &mut self.$name {
                Some(table) => Ok(table),
                unopened => Ok(unopened.insert(self.transaction.open_table($definition)?)),
            }
        }
    };
}

impl<'t> Tables<'t> {
    pub(crate) fn of(transaction: &'t WriteTransaction) -> Self {
        Self {
            transaction,
            journal: None,
            waiting: None,
            outbox: None,
            dead: None,
            state: None,
            expiry: None,
            documents: None,
            trace: None,
            payloads: None,
        }
    }

    table!(journal, JOURNAL, IdTable<'t>);
    table!(waiting, WAITING, BytesTable<'t>);
    table!(outbox, OUTBOX, BytesTable<'t>);
    table!(dead, DEAD, IdTable<'t>);
    table!(state, STATE, BytesTable<'t>);
    table!(expiry, EXPIRY, Table<'t, Bytes, ()>);
    table!(documents, DOCUMENTS, BytesTable<'t>);
    table!(trace, TRACE, IdTable<'t>);
    table!(payloads, PAYLOADS, Table<'t, &'static [u8; 32], u64>);

    pub(crate) fn write_ledger(&self, ledger: &Ledger) -> Result<(), redb::Error> {
        let mut row = [0; 32];
        row[..16].copy_from_slice(&ledger.last_id.to_be_bytes());
        row[16..24].copy_from_slice(&ledger.journal_bytes.to_be_bytes());
        row[24..].copy_from_slice(&ledger.trace_bytes.to_be_bytes());
        self.transaction.open_table(META)?.insert(LEDGER_ROW, &row[..])?;
        Ok(())
    }

    pub(crate) fn write_dead_letters(&self, ledger: &Ledger) -> Result<(), redb::Error> {
        let row = dead_row(ledger.dead_bytes, ledger.dead);
        self.transaction.open_table(META)?.insert(DEAD_ROW, &row[..])?;
        Ok(())
    }
}

/// What is counted as changes are made. The first four are on disk; the others are asked of tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    /// The greatest id that was given out.
    pub(crate) last_id: u128,
    /// What journaled readings weigh.
    pub(crate) journal_bytes: u64,
    /// Of the rows of the trace.
    pub(crate) trace_bytes: u64,
    /// What dead letters weigh.
    pub(crate) dead_bytes: u64,
    /// The key of its last row.
    pub(crate) last_trace: u128,
    pub(crate) journal: u64,
    pub(crate) waiting: u64,
    pub(crate) outbox: u64,
    pub(crate) dead: u64,
    /// Payloads that have files.
    pub(crate) payloads: u64,
}

/// What a file says that it is.
pub(crate) enum Format {
    /// Nothing was ever written to it.
    Empty,
    Known,
    Older,
    Newer(u64),
    /// Another program's.
    Foreign,
}

/// Reads the format of a file that redb could open.
pub(crate) fn format(database: &Database) -> Result<Format, redb::Error> {
    let transaction = database.begin_read()?;
    if transaction.list_tables()?.next().is_none() {
        return Ok(Format::Empty);
    }
    let meta = match transaction.open_table(META) {
        Ok(meta) => meta,
        Err(TableError::Storage(error)) => return Err(error.into()),
        Err(_) => return Ok(Format::Foreign),
    };
    let row = meta.get(FORMAT_ROW)?;
    let format = row.and_then(|row| row.value().try_into().ok()).map(u64::from_be_bytes);
    Ok(match format {
        Some(FORMAT) => Format::Known,
        Some(1..FORMAT) => Format::Older,
        Some(found) if found > FORMAT => Format::Newer(found),
        _ => Format::Foreign,
    })
}

/// Makes all tables.
pub(crate) fn create(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut tables = Tables::of(&transaction);
        tables.journal()?;
        tables.waiting()?;
        tables.outbox()?;
        tables.dead()?;
        tables.state()?;
        tables.expiry()?;
        tables.documents()?;
        tables.trace()?;
        tables.payloads()?;
        tables.write_ledger(&Ledger::default())?;
        tables.write_dead_letters(&Ledger::default())?;
        transaction.open_table(META)?.insert(FORMAT_ROW, &FORMAT.to_be_bytes()[..])?;
    }
    transaction.commit()?;
    Ok(())
}

/// Makes what older formats do not have. Their rows are as they were.
pub(crate) fn migrate(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut tables = Tables::of(&transaction);
        tables.trace()?;
        tables.payloads()?;
        transaction.open_table(META)?.insert(FORMAT_ROW, &FORMAT.to_be_bytes()[..])?;
    }
    transaction.commit()?;
    Ok(())
}

/// Weighs all dead letters, if that was not done or a version that does not do it was at the file.
pub(crate) fn weigh_dead_letters(database: &Database) -> Result<(), redb::Error> {
    let row = {
        let read = database.begin_read()?;
        let dead = read.open_table(DEAD)?;
        let all = dead.len()?;
        if dead_letters(&read.open_table(META)?)?.is_some_and(|(_, count)| count == all) {
            return Ok(());
        }
        let mut bytes = 0;
        for row in dead.iter()? {
            bytes += row::weight_of_dead_letter(row?.1.value());
        }
        dead_row(bytes, all)
    };
    let transaction = database.begin_write()?;
    transaction.open_table(META)?.insert(DEAD_ROW, &row[..])?;
    transaction.commit()?;
    Ok(())
}

fn dead_row(bytes: u64, count: u64) -> [u8; 16] {
    ((u128::from(bytes) << 64) | u128::from(count)).to_be_bytes()
}

/// Bytes and count, as they were written.
fn dead_letters(meta: &impl ReadableTable<&'static str, Bytes>) -> Result<Option<(u64, u64)>, redb::Error> {
    let row = meta.get(DEAD_ROW)?;
    let row = row.and_then(|row| row.value().try_into().ok()).map(u128::from_be_bytes);
    Ok(row.map(|row| ((row >> 64) as u64, row as u64)))
}

/// What the counts are, without a walk over any table.
pub(crate) fn ledger(transaction: &ReadTransaction) -> Result<Ledger, redb::Error> {
    let meta = transaction.open_table(META)?;
    let damaged = || redb::Error::Corrupted("the ledger is missing".to_owned());
    let row = meta.get(LEDGER_ROW)?.ok_or_else(damaged)?;
    let (last_id, rest) = row.value().split_first_chunk::<16>().ok_or_else(damaged)?;
    let (journal_bytes, rest) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
    let trace_bytes = match rest {
        // Written before there was a trace.
        [] => 0,
        rest => u64::from_be_bytes(rest.try_into().map_err(|_| damaged())?),
    };
    let last_trace = match transaction.open_table(TRACE) {
        Err(TableError::TableDoesNotExist(_)) => 0,
        opened => opened?.last()?.map_or(0, |(key, _)| key.value()),
    };
    Ok(Ledger {
        last_id: u128::from_be_bytes(*last_id),
        journal_bytes: u64::from_be_bytes(*journal_bytes),
        trace_bytes,
        dead_bytes: dead_letters(&meta)?.map_or(0, |(bytes, _)| bytes),
        last_trace,
        journal: transaction.open_table(JOURNAL)?.len()?,
        waiting: transaction.open_table(WAITING)?.len()?,
        outbox: transaction.open_table(OUTBOX)?.len()?,
        dead: transaction.open_table(DEAD)?.len()?,
        payloads: match transaction.open_table(PAYLOADS) {
            Err(TableError::TableDoesNotExist(_)) => 0,
            opened => opened?.len()?,
        },
    })
}
