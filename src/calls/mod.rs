//! What functions that SQL calls ask first: of their arguments, of the relation that is meant, and of the server and the caller.

pub mod arguments;
pub mod relation;
pub mod standing;
