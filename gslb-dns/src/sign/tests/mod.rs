mod bind;
mod keys;
pub(crate) mod reader;
mod rolling;
mod signing;

use std::sync::Arc;

use super::*;
use crate::wire::Name;

fn name(text: &str) -> Name {
    Name::parse(text, &Name::root()).expect("a name")
}

fn active(algorithm: Algorithm, role: Role) -> ActiveKey {
    let key = Arc::new(SigningKey::generate(algorithm, role).expect("a key"));
    let duty = match role {
        Role::Csk => Duty::All,
        Role::Ksk => Duty::Keys,
        Role::Zsk => Duty::Rest,
    };
    ActiveKey { key, duty }
}
