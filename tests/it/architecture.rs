//! Is the house built as ARCHITECTURE.md says?

mod tidy;
