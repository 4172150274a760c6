//! What a reader of policies may choose.

/// How policies are read. The default is Cilium's way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Where a `toEndpoints` selector without a namespace looks for pods.
    pub selector_scope: SelectorScope,
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
