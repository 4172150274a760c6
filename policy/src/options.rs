//! What a reader of policies may choose.

/// How policies are read. The default is Cilium's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where a `toEndpoints` selector without a namespace looks for pods.
    pub selector_scope: SelectorScope,
    /// Whether there is a proxy that judges HTTP, Kafka and TLS. Without it rules for these are
    /// warned of, and their ports not opened.
    pub l7: bool,
    /// Whether every policy is audited, whatever it says of itself.
    pub audit: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { selector_scope: SelectorScope::default(), l7: true, audit: false }
    }
}

/// Where a `toEndpoints` selector of a namespaced policy looks for pods if it names no namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SelectorScope {
    /// In the policy's own namespace, as Cilium does.
    #[default]
    PolicyNamespace,
    /// In all namespaces.
    AllNamespaces,
}
