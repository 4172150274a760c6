//! The messages and the service as they go over the wire, generated from `proto/`.

macro_rules! generated {
    ($($(#[$doc:meta])* $package:ident = $name:literal;)*) => {$(
        $(#[$doc])*
        #[allow(missing_docs, unused_qualifications, clippy::all, reason = "generated")]
        pub mod $package {
            tonic::include_proto!($name);
        }
    )*};
}

generated! {
    /// What a flow is, and what filters select.
    flow = "flow";
    /// The service.
    observer = "observer";
    /// The state of nodes.
    relay = "relay";
}
