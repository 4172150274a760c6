//! The kernel's maps, as far as people look into them.

use serde::{Deserialize, Serialize};

/// One map; [`MAPS`](crate::path::MAPS) answers with a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MapInfo {
    /// The map's name.
    pub name: String,
    /// The kind of map, as the kernel calls it.
    pub kind: String,
    /// How many entries it holds.
    pub entries: u64,
    /// How many it can hold.
    pub size: u64,
}

/// One entry of a map, decoded to text; [`MAP`](crate::path::MAP) answers with a list, ordered by key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MapRow {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
}

impl MapInfo {
    /// Whether so little space is left that someone should look.
    pub fn is_nearly_full(&self) -> bool {
        self.entries.saturating_mul(10) > self.size.saturating_mul(9)
    }
}
