//! Tests of the operation model with any input.
//!
//! They are in the library of a crate of their own, because coverage guidance needs every test binary of a package to be
//! linked with the fuzzer.

#[cfg(test)]
mod any_input;
