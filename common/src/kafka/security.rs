//! Who may read along, and who this client says it is.

/// How connections are protected. Cheap to clone; clones share what they have found out. The default is TCP as it is.
#[derive(Debug, Clone, Default)]
pub struct Security {}
