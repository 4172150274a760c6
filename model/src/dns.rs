//! What may go wrong with a question of DNS on its way.

macro_rules! failures {
    ($($(#[$doc:meta])* $name:ident, $text:literal;)*) => {
        /// Why the DNS proxy answered a question that policy allows with an error of its own.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum DnsFailure {
            $($(#[$doc])* $name,)*
        }

        impl DnsFailure {
            /// The failure's name as people read it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

failures! {
    /// The endpoint had asked too much under patterns.
    OverLimit, "over-query-limit";
    /// The server was silent.
    Timeout, "upstream-timeout";
    /// The server could not be reached, or hung up.
    Unreachable, "upstream-unreachable";
    /// Too many questions were waiting for answers.
    TooMany, "too-many-in-flight";
    /// The answer could not be read.
    Malformed, "malformed-answer";
    /// The addresses could not be enforced.
    NotEnforced, "addresses-not-enforced";
    /// The proxy stopped.
    Stopped, "proxy-stopped";
}
