//! Agents that die, are replaced or change their mind: traffic does not notice.

mod edge;
mod ports;
mod reload;
mod restart;
mod upgrade;
