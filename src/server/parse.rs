//! User text through the server's own parser, fragment by fragment (LAW 21).
//!
//! A fragment is parsed at the end of a statement of ours, and the tree is
//! checked to hold that fragment and nothing else. Text that passes can then be
//! placed between other text, as long as a newline ends it (a `--` comment).
