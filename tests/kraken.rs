//! A Kraken Collector's side of the wire.

use anyhow::Result;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

/// What a collector sends, and what it is answered: both have these fields.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Message {
    #[prost(string, tag = "1")]
    pub collector_name: String,
    #[prost(string, tag = "2")]
    pub content_type: String,
    #[prost(string, tag = "3")]
    pub metadata: String,
    #[prost(bytes = "vec", tag = "4")]
    pub payload: Vec<u8>,
}

impl Message {
    pub fn new(collector: &str, content_type: &str, payload: &[u8]) -> Self {
        Self {
            collector_name: collector.to_owned(),
            content_type: content_type.to_owned(),
            metadata: "{}".to_owned(),
            payload: payload.to_vec(),
        }
    }

    /// As it stands in a call.
    pub fn encoded(&self) -> Vec<u8> {
        prost::Message::encode_to_vec(self)
    }
}

pub const PATH: &str = "/kraken.KrakenService/ProcessKrakenRequest";

/// One connection.
#[derive(Debug)]
pub struct Collector(Grpc<Channel>);

impl Collector {
    /// `address`: `127.0.0.1:50051`.
    pub async fn connect(address: &str) -> Result<Self> {
        Ok(Self(Grpc::new(Endpoint::from_shared(format!("http://{address}"))?.connect().await?)))
    }

    pub async fn call(&mut self, message: Message) -> Result<Message, Status> {
        let lost = |error: tonic::transport::Error| Status::unknown(error.to_string());
        self.0.ready().await.map_err(lost)?;
        let codec = ProstCodec::<Message, Message>::default();
        let answer = self.0.unary(Request::new(message), PathAndQuery::from_static(PATH), codec).await?;
        Ok(answer.into_inner())
    }
}
