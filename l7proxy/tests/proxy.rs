//! The whole proxy on loopback: real clients, real servers, and a daemon that says what the test
//! says.

#[path = "proxy/audit.rs"]
mod audit;
#[path = "proxy/http1.rs"]
mod http1;
#[path = "proxy/http2.rs"]
mod http2;
#[path = "proxy/kafka.rs"]
mod kafka;
#[path = "proxy/limits.rs"]
mod limits;
#[path = "proxy/process.rs"]
mod process;
#[path = "proxy/rules.rs"]
mod rules;
#[path = "proxy/servers.rs"]
mod servers;
#[path = "proxy/smuggling.rs"]
mod smuggling;
#[path = "proxy/stage.rs"]
mod stage;
#[path = "proxy/tls.rs"]
mod tls;
