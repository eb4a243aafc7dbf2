//! Routes, ingresses and sinks: they are asked for and changed alike.

use axum::Json as Respond;
use axum::extract::State;
use axum::http::StatusCode;
use sandbar_reading::settings;
use serde_json::{Map, Value};

use super::{Answer, Named};
use crate::app::App;
use crate::extract::{Json, Path};
use crate::views::{Code, Page, Problem, PutView};

macro_rules! resource {
    ($(#[$doc:meta])* $module:ident: $view:ident, $all:ident, $one:ident, $put:ident, $remove:ident) => {
        $(#[$doc])*
        pub(crate) mod $module {
            use super::*;
            use crate::views::$view;

            pub(crate) async fn list(State(app): State<App>) -> Respond<Page<$view>> {
                Respond(Page::all(app.control.$all().into_iter().map(Into::into).collect()))
            }

            pub(crate) async fn show(
                State(app): State<App>,
                Path(Named { name }): Path<Named>,
            ) -> Answer<$view> {
                Ok(Respond(app.control.$one(name.0.as_str())?.into()))
            }

            pub(crate) async fn put(
                State(app): State<App>,
                Path(Named { name }): Path<Named>,
                Json(table): Json<Map<String, Value>>,
            ) -> Result<(StatusCode, Respond<PutView>), Problem> {
                // What is JSON and no such table is a setting that cannot work, as in the file.
                let table = settings(Value::Object(table));
                let table = table.map_err(|error| Problem::at(Code::InvalidConfig, error))?;
                let shown = name.0.to_string();
                let created = app.control.$put(name.0, table).await?;
                let status = if created { StatusCode::CREATED } else { StatusCode::OK };
                Ok((status, Respond(PutView { name: shown, created })))
            }

            pub(crate) async fn remove(
                State(app): State<App>,
                Path(Named { name }): Path<Named>,
            ) -> Result<StatusCode, Problem> {
                app.control.$remove(name.0).await?;
                Ok(StatusCode::NO_CONTENT)
            }
        }
    };
}

resource! {
    /// `/v1/routes`
    routes: RouteView, routes, route, put_route, remove_route
}
resource! {
    /// `/v1/ingresses`
    ingresses: IngressView, ingresses, ingress, put_ingress, remove_ingress
}
resource! {
    /// `/v1/sinks`
    sinks: SinkView, sinks, sink, put_sink, remove_sink
}
