//! What of the daemon others read too: its configuration.

pub mod config;
