//! Any input at all for the operation model.
//!
//! A crate of its own, with its tests in the library, because coverage guidance needs every test binary of a package to
//! be linked with the fuzzer.

#[cfg(test)]
mod any_input;
