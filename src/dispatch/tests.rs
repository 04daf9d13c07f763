use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::sink::Backoff;
use crate::store::{DeadQuery, Query, Sqlite, Start, Store};

mod bench;
mod bounds;
mod crashes;
mod destination;
mod erasure;
mod failures;
mod fairness;
mod model;
mod outages;
mod replay;
mod schedule;
