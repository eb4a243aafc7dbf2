//! All of the API.

use sandbar_control::tables::{IngressTable, RouteTable, SinkTable};

use crate::endpoint::{Endpoint, delete, get, post, put};
use crate::metrics::OPENMETRICS;
use crate::resources::{
    connections, dead_letters, devices, host, live, logs, modules, outbox, readings, tables, tail, trials,
};
use crate::views::{
    AcceptedView, Activate, AppliedView, Check, Code, ConfigView, ConnectionView, DeadLetterView,
    DeviceDetailView, DeviceView, IngressView, KindsView, LogRecordView, ModuleView, NewCandidate,
    NewCommandView, NewReading, NewReplay, NewTrial, OrderedView, Page, PutDesired, PutDevice, PutView,
    QueuedView, ReadingView, ReadyView, RedriveFilter, Redriven, ReplayView, Retry, RouteView, SinkView,
    StatusView, TraceView, TrialView, TryView, UploadedView,
};

pub(crate) fn all() -> Vec<Endpoint> {
    [
        of_modules(),
        of_routes(),
        of_trials(),
        of_ingresses(),
        of_sinks(),
        of_readings(),
        of_leftovers(),
        of_devices(),
        of_the_host(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What the file declares can only be changed there.
const CHANGES: &[Code] = &[Code::DeclaredInFile, Code::InUse, Code::Conflict, Code::InvalidConfig];

fn of_modules() -> Vec<Endpoint> {
    vec![
        get("/v1/modules", modules::list).does("List the modules").gives::<Page<ModuleView>>(200),
        get("/v1/modules/{name}", modules::show)
            .does("Show a module and its versions")
            .gives::<ModuleView>(200),
        put("/v1/modules/{name}", modules::upload)
            .does("Upload a component, or a script, as the next version of a module; the bytes of the active one are none")
            .header("Sandbar-Activate", "`false` keeps the new version without using it.")
            .header("Sandbar-Signature", "Base 64 of an Ed25519 signature of the body by a key that the host trusts.")
            .takes_wasm()
            .gives::<UploadedView>(200)
            .gives::<UploadedView>(201)
            .fails(CHANGES)
            .fails(&[Code::InvalidComponent, Code::Untrusted]),
        delete("/v1/modules/{name}", modules::remove)
            .does("Remove a module that no route uses")
            .gives_nothing()
            .fails(CHANGES),
        post("/v1/modules/{name}/activate", modules::activate)
            .does("Make a version the one that routes use")
            .takes::<Activate>()
            .gives::<ModuleView>(200)
            .fails(CHANGES)
            .fails(&[Code::InvalidComponent, Code::Untrusted]),
        put("/v1/modules/{name}/candidate", trials::put_candidate)
            .does("Put a version on trial: as a shadow beside the active one, or as a canary for a share of the keys")
            .takes::<NewCandidate>()
            .gives::<ModuleView>(200)
            .fails(CHANGES)
            .fails(&[Code::InvalidComponent, Code::Untrusted]),
        delete("/v1/modules/{name}/candidate", trials::remove_candidate)
            .does("End a trial; the active version stays")
            .gives_nothing()
            .fails(CHANGES),
        post("/v1/modules/{name}/promote", trials::promote)
            .does("Make the version on trial the one that routes use")
            .gives::<ModuleView>(200)
            .fails(CHANGES)
            .fails(&[Code::InvalidComponent, Code::Untrusted]),
        post("/v1/modules/{name}/invoke", modules::invoke)
            .does("Try a module on a reading; nothing of it is kept")
            .takes::<NewTrial>()
            .gives::<TrialView>(200)
            .fails(&[Code::InvalidConfig, Code::InvalidComponent, Code::Untrusted]),
    ]
}

fn of_routes() -> Vec<Endpoint> {
    vec![
        get("/v1/routes", tables::routes::list).does("List the routes").gives::<Page<RouteView>>(200),
        get("/v1/routes/{name}", tables::routes::show).does("Show a route").gives::<RouteView>(200),
        put("/v1/routes/{name}", tables::routes::put)
            .does("Make or replace a route")
            .takes::<RouteTable>()
            .gives::<PutView>(200)
            .gives::<PutView>(201)
            .fails(CHANGES)
            .fails(&[Code::InvalidComponent]),
        delete("/v1/routes/{name}", tables::routes::remove)
            .does("Remove a route; what waits for it becomes dead letters, its state is gone")
            .gives_nothing()
            .fails(CHANGES),
        get("/v1/routes/{name}/logs", logs::list)
            .does("What the route's handler logged: the newest lines that are kept, oldest first")
            .query::<logs::Wanted>()
            .gives::<Page<LogRecordView>>(200),
        get("/v1/routes/{name}/logs/tail", logs::tail)
            .does("Watch what the route's handler logs (`event: log`), after the newest `last` lines that are kept; `missed` says how many lines a slow watcher did not see")
            .query::<logs::WantedTail>()
            .gives_text("text/event-stream"),
    ]
}

fn of_trials() -> Vec<Endpoint> {
    vec![
        post("/v1/try", trials::try_out)
            .does("Try a component, a script or a version on journaled readings beside the active version; nothing is kept")
            .query::<trials::WantedTry>()
            .header("Sandbar-Signature", "Base 64 of an Ed25519 signature of the body by a key that the host trusts.")
            .may_take_wasm()
            .gives::<TryView>(200)
            .fails(&[Code::NotFound, Code::Conflict, Code::InvalidConfig, Code::InvalidComponent, Code::Untrusted]),
        get("/v1/replays", trials::replays).does("List replays, newest first").gives::<Page<ReplayView>>(200),
        post("/v1/replays", trials::begin_replay)
            .does("Handle readings of a time range, or dead letters, once more; what is put out says so")
            .takes::<NewReplay>()
            .gives::<ReplayView>(202)
            .fails(&[Code::NotFound, Code::Conflict, Code::Untrusted]),
        get("/v1/replays/{id}", trials::replay).does("Show how far a replay has come").gives::<ReplayView>(200),
        delete("/v1/replays/{id}", trials::cancel_replay)
            .does("End a replay; what it has put out stays")
            .gives::<ReplayView>(200)
            .fails(&[Code::Conflict]),
    ]
}

fn of_ingresses() -> Vec<Endpoint> {
    vec![
        get("/v1/ingresses", tables::ingresses::list)
            .does("List the ingresses")
            .gives::<Page<IngressView>>(200),
        get("/v1/ingresses/{name}", tables::ingresses::show)
            .does("Show an ingress")
            .gives::<IngressView>(200),
        put("/v1/ingresses/{name}", tables::ingresses::put)
            .does("Make or replace an ingress; GET /v1/kinds has the settings of every driver")
            .takes::<IngressTable>()
            .gives::<PutView>(200)
            .gives::<PutView>(201)
            .fails(CHANGES),
        delete("/v1/ingresses/{name}", tables::ingresses::remove)
            .does("Remove an ingress; what it accepted stays")
            .gives_nothing()
            .fails(CHANGES),
    ]
}

fn of_sinks() -> Vec<Endpoint> {
    vec![
        get("/v1/sinks", tables::sinks::list).does("List the sinks").gives::<Page<SinkView>>(200),
        get("/v1/sinks/{name}", tables::sinks::show).does("Show a sink").gives::<SinkView>(200),
        put("/v1/sinks/{name}", tables::sinks::put)
            .does("Make or replace a sink; GET /v1/kinds has the settings of every kind")
            .takes::<SinkTable>()
            .gives::<PutView>(200)
            .gives::<PutView>(201)
            .fails(CHANGES),
        delete("/v1/sinks/{name}", tables::sinks::remove)
            .does("Remove a sink that no route uses; what is queued for it becomes dead letters")
            .gives_nothing()
            .fails(CHANGES),
    ]
}

fn of_readings() -> Vec<Endpoint> {
    vec![
        get("/v1/readings", readings::list)
            .does("List the journal's readings, newest first")
            .query::<readings::Wanted>()
            .gives::<Page<ReadingView>>(200),
        post("/v1/readings", readings::accept)
            .does("Hand a reading over, as the ingress `api`; it is on disk when this answers")
            .takes::<NewReading>()
            .gives::<AcceptedView>(202),
        get("/v1/readings/{id}", readings::show).does("Show a reading").gives::<ReadingView>(200),
        get("/v1/readings/{id}/trace", logs::trace)
            .does("What became of a reading: which routes took it, every attempt, every delivery, and why")
            .gives::<TraceView>(200),
        get("/v1/tail", tail::tail)
            .does(
                "Watch readings (`event: reading`), outputs (`output`) and dead letters (`dead-letter`) as they \
                 come; `missed` says how many a slow watcher did not see",
            )
            .query::<tail::Wanted>()
            .gives_text("text/event-stream"),
    ]
}

fn of_leftovers() -> Vec<Endpoint> {
    vec![
        get("/v1/connections", connections::list)
            .does("List the connections that ingresses have open, oldest first")
            .query::<connections::Wanted>()
            .gives::<Page<ConnectionView>>(200),
        get("/v1/outbox", outbox::list)
            .does("List what waits for a sink or device, by target, oldest first")
            .query::<outbox::Wanted>()
            .gives::<Page<QueuedView>>(200),
        post("/v1/outbox/retry", outbox::retry)
            .does("Offer again now, without waiting for the back-off")
            .may_take::<Retry>()
            .gives_nothing(),
        get("/v1/dead-letters", dead_letters::list)
            .does("List what was given up on, newest first")
            .query::<dead_letters::Wanted>()
            .gives::<Page<DeadLetterView>>(200),
        post("/v1/dead-letters/redrive", dead_letters::redrive_all)
            .does("Try dead letters again: of a route, of a sink, or all")
            .may_take::<RedriveFilter>()
            .gives::<Redriven>(200)
            .fails(&[Code::Conflict]),
        get("/v1/dead-letters/{id}", dead_letters::show)
            .does("Show a dead letter")
            .gives::<DeadLetterView>(200),
        delete("/v1/dead-letters/{id}", dead_letters::discard).does("Discard a dead letter").gives_nothing(),
        post("/v1/dead-letters/{id}/redrive", dead_letters::redrive)
            .does("Try a dead letter again")
            .gives::<Redriven>(200)
            .fails(&[Code::Conflict]),
    ]
}

fn of_devices() -> Vec<Endpoint> {
    const ORDERS: &[Code] = &[Code::Conflict, Code::Unreachable, Code::Unanswered];
    vec![
        get("/v1/devices", devices::list)
            .does("List the devices, by id")
            .query::<devices::Wanted>()
            .gives::<Page<DeviceView>>(200),
        get("/v1/devices/{device}", devices::show)
            .does("Show a device: the last values of its resources, and what they should be")
            .gives::<DeviceDetailView>(200),
        put("/v1/devices/{device}", devices::put)
            .does("Name a device, give it a type and labels; it need not have been heard of")
            .takes::<PutDevice>()
            .gives::<DeviceView>(200)
            .gives::<DeviceView>(201)
            .fails(&[Code::Conflict]),
        delete("/v1/devices/{device}", devices::remove)
            .does("Forget a device that is not connected; commands that wait for it become dead letters")
            .gives_nothing()
            .fails(&[Code::Conflict]),
        get("/v1/devices/{device}/readings", devices::readings)
            .does("List the journal's readings of a device, newest first")
            .query::<devices::WantedReadings>()
            .gives::<Page<ReadingView>>(200),
        get("/v1/devices/{device}/commands", devices::commands)
            .does("List the commands for a device that are remembered, newest first")
            .query::<devices::WantedCommands>()
            .gives::<Page<OrderedView>>(200),
        post("/v1/devices/{device}/commands", devices::order)
            .does("Give a device a command: put into the outbox, or sent at once and answered (`mode`)")
            .takes::<NewCommandView>()
            .gives::<OrderedView>(200)
            .gives::<OrderedView>(202)
            .fails(ORDERS),
        get("/v1/devices/{device}/commands/{command}", devices::command)
            .does("Show how far a command has come")
            .gives::<OrderedView>(200),
        delete("/v1/devices/{device}/commands/{command}", devices::cancel)
            .does("Take a command back that was not sent yet")
            .gives::<OrderedView>(200)
            .fails(&[Code::Conflict]),
        put("/v1/devices/{device}/desired/{resource}", devices::desire)
            .does("Say what a resource should be: it is commanded now or when the device arrives, until it reports that")
            .takes::<PutDesired>()
            .gives::<DeviceDetailView>(200)
            .fails(&[Code::Conflict]),
        delete("/v1/devices/{device}/desired/{resource}", devices::desire_no_more)
            .does("Leave a resource as it is")
            .gives_nothing(),
        get("/v1/tail/devices", live::devices)
            .does(
                "Watch devices (`event: device` when one is new or its presence, name, type or labels change),                  values of their resources (`resources`), and `removed`; `missed` says how many a slow watcher                  did not see",
            )
            .gives_text("text/event-stream"),
        get("/v1/tail/connections", live::connections)
            .does("Watch connections being `opened` and `closed`; `missed` as above")
            .gives_text("text/event-stream"),
        get("/v1/tail/status", live::status)
            .does("Watch the status, once a second (`event: status`)")
            .gives_text("text/event-stream"),
    ]
}

fn of_the_host() -> Vec<Endpoint> {
    vec![
        get("/v1/status", host::status).does("How everything is doing").gives::<StatusView>(200),
        get("/v1/config", host::config)
            .does("What is in effect, as the configuration file would say it, without secrets")
            .gives::<ConfigView>(200),
        post("/v1/config/reload", host::reload)
            .does("Read the configuration file again, and do what it says, all of it or nothing")
            .gives::<AppliedView>(200)
            .fails(CHANGES)
            .fails(&[Code::InvalidComponent, Code::TooLarge]),
        post("/v1/config/check", host::check)
            .does("Say what a configuration file would change, or what is wrong with it")
            .takes::<Check>()
            .gives::<AppliedView>(200)
            .fails(CHANGES)
            .fails(&[Code::InvalidComponent]),
        get("/v1/kinds", host::built_with)
            .does("The drivers and kinds of sinks that there are, with examples and settings")
            .gives::<KindsView>(200),
        get("/healthz", host::healthz).does("Whether the process answers").gives::<ReadyView>(200),
        get("/readyz", host::readyz)
            .does("Whether readings should be sent here")
            .gives::<ReadyView>(200)
            .gives::<ReadyView>(503),
        get("/metrics", host::metrics).does("Figures for Prometheus").gives_text(OPENMETRICS),
        get("/openapi.json", host::openapi).does("This document").gives::<serde_json::Value>(200),
    ]
}
