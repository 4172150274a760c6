//! Documents to policies: every field checked, every problem named at its place.
