//! The engine as a whole.

mod dnssec_types;
mod extras;
mod limited;
mod naive;
mod overlay;
mod packet;
mod protocol;
mod robust;
mod rules;
mod signed;
mod stat;
mod steer;
mod validate;
mod world;
