//! Tests of the whole of folding: every order of its steps, and a real device's data model.

mod exploration;
mod real_device;
