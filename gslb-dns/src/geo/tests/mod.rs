//! Laws of the geo tables, over small generated worlds and the shipped database.

mod laws;
mod reading;
mod shipped;
mod world;
