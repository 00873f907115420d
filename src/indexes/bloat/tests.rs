//! Index bloat, in the server.
