//! Meanings to numbers and back: identities, verdict tables and endpoints as the kernel knows them.
//!
//! A meaning is known by its [`digest`], so a restarted daemon that finds the digests in the
//! kernel gives every meaning its old number again. How many numbers there are is fixed from the
//! start; when all are taken the caller is told, and nothing is pushed out.
#![forbid(unsafe_code)]

mod digest;
mod numbers;

pub use digest::digest;
pub use numbers::{Acquired, Full, Numbers, RestoreError};
