//! The engine as a whole.

mod limited;
mod naive;
mod overlay;
mod packet;
mod protocol;
mod robust;
mod signed;
mod stat;
mod steer;
mod validate;
mod world;
