//! The filters of the command line.
//!
//! A filter about either end becomes two of the API's, one for each end; with several filters
//! about either end, they have to hold of the same one.

mod flag;

use clap::error::ErrorKind;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use hubble::proto::flow::{FlowFilter, IpVersion};

use flag::Given;

/// What flows have to match, and what they must not.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Filters {
    allow: Ends,
    deny: Ends,
}

/// A filter that holds of a flow's source, and the same of its destination.
#[derive(Clone, Debug, Default, PartialEq)]
struct Ends {
    source: FlowFilter,
    destination: FlowFilter,
    /// Namespaces of pods and services that are given without one.
    namespaces: Vec<String>,
    /// The same of the source's.
    source_namespaces: Vec<String>,
    /// The same of the destination's.
    destination_namespaces: Vec<String>,
}

impl Filters {
    /// The API's filters: those that must match, and those that must not.
    pub fn into_lists(self) -> (Vec<FlowFilter>, Vec<FlowFilter>) {
        (self.allow.into_filters(), self.deny.into_filters())
    }

    /// From all values that were given, in their order.
    fn read(given: impl Iterator<Item = (Given, String)>) -> Result<Self, String> {
        let mut filters = Self::default();
        let mut negated = false;
        for (given, text) in given {
            if matches!(given, Given::Not) {
                if std::mem::replace(&mut negated, true) {
                    return Err("--not stands once before a filter".to_owned());
                }
                continue;
            }
            let ends = if negated { &mut filters.deny } else { &mut filters.allow };
            ends.add(given, text)?;
            negated = false;
        }
        if negated { Err("--not stands before a filter".to_owned()) } else { Ok(filters) }
    }
}

impl Ends {
    fn add(&mut self, given: Given, text: String) -> Result<(), String> {
        let (source, destination) = match given {
            Given::Not => return Ok(()),
            Given::Namespace => {
                self.namespaces.push(text);
                return Ok(());
            }
            Given::FromNamespace => {
                self.source_namespaces.push(text);
                return Ok(());
            }
            Given::ToNamespace => {
                self.destination_namespaces.push(text);
                return Ok(());
            }
            Given::AllNamespaces => {
                self.namespaces.push(String::new());
                return Ok(());
            }
            Given::FromAllNamespaces => {
                self.source_namespaces.push(String::new());
                return Ok(());
            }
            Given::ToAllNamespaces => {
                self.destination_namespaces.push(String::new());
                return Ok(());
            }
            Given::Ipv4 => {
                self.add_version(IpVersion::IPv4);
                return Ok(());
            }
            Given::Ipv6 => {
                self.add_version(IpVersion::IPv6);
                return Ok(());
            }
            Given::Either(flag) => (flag.source, flag.destination),
            Given::From(flag, _) => (flag.source, flag.source),
            Given::To(flag, _) => (flag.destination, flag.destination),
        };
        source(&mut self.source, &text)?;
        destination(&mut self.destination, &text)
    }

    fn add_version(&mut self, version: IpVersion) {
        for filter in [&mut self.source, &mut self.destination] {
            filter.ip_version.push(version.into());
        }
    }

    fn into_filters(mut self) -> Vec<FlowFilter> {
        self.place_ends();
        self.place();
        if self == Self::default() {
            return Vec::new();
        }
        if self.source == self.destination {
            return vec![self.source];
        }
        vec![self.source, self.destination]
    }

    /// Puts the namespaces of one end before its pods and services; where none are given, that end
    /// is to be in the namespace.
    fn place_ends(&mut self) {
        let sources = std::mem::take(&mut self.source_namespaces);
        let destinations = std::mem::take(&mut self.destination_namespaces);
        for filter in [&mut self.source, &mut self.destination] {
            for (namespaces, pods, services) in [
                (&sources, &mut filter.source_pod, &mut filter.source_service),
                (&destinations, &mut filter.destination_pod, &mut filter.destination_service),
            ] {
                if !namespaces.is_empty() && pods.is_empty() && services.is_empty() {
                    pods.push(String::new());
                }
                place(namespaces, [pods, services]);
            }
        }
    }

    /// Puts namespaces before the pods and services that are given without one; where none are
    /// given, either end is to be in the namespace.
    fn place(&mut self) {
        let namespaces = std::mem::take(&mut self.namespaces);
        if namespaces.is_empty() {
            return;
        }
        let names = |filter: &FlowFilter| {
            filter.source_pod.len()
                + filter.destination_pod.len()
                + filter.source_service.len()
                + filter.destination_service.len()
        };
        if names(&self.source) + names(&self.destination) == 0 {
            self.source.source_pod.push(String::new());
            self.destination.destination_pod.push(String::new());
        }
        for filter in [&mut self.source, &mut self.destination] {
            place(&namespaces, [&mut filter.source_pod, &mut filter.source_service]);
            place(&namespaces, [&mut filter.destination_pod, &mut filter.destination_service]);
        }
    }
}

/// Puts namespaces before all names that have none.
fn place(namespaces: &[String], lists: [&mut Vec<String>; 2]) {
    if namespaces.is_empty() {
        return;
    }
    for list in lists {
        *list = list.iter().flat_map(|name| in_namespaces(name, namespaces)).collect();
    }
}

fn in_namespaces(name: &str, namespaces: &[String]) -> Vec<String> {
    if name.contains('/') {
        return vec![name.to_owned()];
    }
    namespaces.iter().map(|namespace| format!("{namespace}/{name}")).collect()
}

impl Args for Filters {
    fn augment_args(command: Command) -> Command {
        Given::all().fold(command, |command, given| command.arg(given.arg()))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Filters {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut all = Vec::new();
        for given in Given::all() {
            let name = given.name();
            let values = matches.get_many::<String>(name).into_iter().flatten();
            let places = matches.indices_of(name).into_iter().flatten();
            all.extend(places.zip(values).map(|(place, value)| (place, given, value.clone())));
        }
        all.sort_by_key(|(place, _, _)| *place);
        Self::read(all.into_iter().map(|(_, given, value)| (given, value)))
            .map_err(|error| clap::Error::raw(ErrorKind::ValueValidation, error))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
