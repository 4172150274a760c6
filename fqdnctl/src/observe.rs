//! `fqdnctl observe`.

mod filter;
pub(crate) mod line;
mod print;
pub(crate) mod server;
pub(crate) mod time;
mod value;

use std::process::ExitCode;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use hubble::json::Json;
use hubble::proto::flow::FlowFilter;
use hubble::proto::observer::GetFlowsRequest;
use tokio::runtime;
use tonic::{Code, Status};

use crate::client::Client;
use crate::output::{Format, Output};

use filter::Filters;
use print::Printer;
use server::Server;

/// How many flows are shown where nothing is said of how many.
const DEFAULT_COUNT: u64 = 20;
/// The exit code of a request that makes no sense.
const WRONG_USAGE: u8 = 2;

/// Show flows: what was asked, let through and dropped, and why.
///
/// A flow is the first packet of a connection, a dropped packet, or a DNS query or answer. fqdnd
/// keeps the newest in memory; what was lost under load is shown as lost.
///
/// A flow is shown if it matches each filter that is given. A filter that is given several times
/// matches any of its values. After --not, a filter leaves out what it matches.
///
/// The API is Hubble's: the daemon serves `hubble observe` as well, and this command can read from
/// any server of Hubble. Times are UTC, as Hubble prints them.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  fqdnctl observe -f                              everything from now on
  fqdnctl observe --verdict drop --direction egress
  fqdnctl observe --pod default/client --since 5m
  fqdnctl observe --to-fqdn '*.stripe.com' --verdict forwarded
  fqdnctl observe --type l7 --protocol dns --not --dns-query 'cluster\\.local'
  fqdnctl observe --last 100 -o json | jq -r .flow.destination_names[]

Exit codes:
  0  flows were shown, or there were none; ctrl-C ends following with 0
  1  the daemon cannot be reached, or is gone
  2  wrong usage, such as a filter that the daemon does not understand")]
pub(crate) struct Observe {
    /// Go on with the flows that come.
    #[arg(short, long, conflicts_with = "first")]
    follow: bool,
    /// Show the last flows that match, at most so many. Default: 20, unless a time is given.
    #[arg(long, value_name = "N", conflicts_with_all = ["first", "all"])]
    last: Option<u64>,
    /// Show the oldest flows that match, at most so many.
    #[arg(long, value_name = "N", conflicts_with = "all")]
    first: Option<u64>,
    /// Show all flows that match.
    #[arg(long)]
    all: bool,
    /// Show flows since then: a time such as 2026-11-23T10:00:00Z, or how long ago, such as 5m.
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    since: Option<prost_types::Timestamp>,
    /// Show flows up to then.
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    until: Option<prost_types::Timestamp>,
    /// How to print: a line for each flow, a table, several lines for each, or JSON as Hubble
    /// prints it.
    #[arg(
        short,
        long,
        value_name = "FORMAT",
        default_value = "compact",
        value_parser = PossibleValuesParser::new(Format::NAMES_OF_FLOWS)
            .try_map(|name| Format::named(&name))
    )]
    output: Format,
    /// Show addresses and ports, not whose they are.
    #[arg(long)]
    numeric: bool,
    /// Say of each flow which node saw it.
    #[arg(long)]
    print_node_name: bool,
    #[command(flatten)]
    filters: Filters,
    /// A filter as JSON, as Hubble's API has it: flows must match one of these or the flags.
    #[arg(long, value_name = "JSON", help_heading = "Filters", value_parser = FlowFilter::from_json)]
    allowlist: Vec<FlowFilter>,
    /// A filter as JSON: flows that match it are left out.
    #[arg(long, value_name = "JSON", help_heading = "Filters", value_parser = FlowFilter::from_json)]
    denylist: Vec<FlowFilter>,
    #[command(flatten)]
    server: Server,
}

impl Observe {
    pub fn run(self, client: &Client, output: &Output) -> anyhow::Result<ExitCode> {
        let printer = Printer::new(output, self.output, self.numeric, self.print_node_name);
        if self.follow && self.output == Format::Table {
            eprintln!("Error: a table has an end: with --follow use another output");
            return Ok(ExitCode::from(WRONG_USAGE));
        }
        let server = self.server.clone();
        let request = self.into_request();
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            tokio::select! {
                shown = show(&server, client, request, printer) => shown,
                interrupted = tokio::signal::ctrl_c() => {
                    interrupted?;
                    Ok(ExitCode::SUCCESS)
                }
            }
        })
    }

    fn into_request(self) -> GetFlowsRequest {
        let number = match (self.last, self.first) {
            (Some(number), _) | (None, Some(number)) => number,
            (None, None) if self.all || self.follow => 0,
            (None, None) if self.since.is_some() || self.until.is_some() => 0,
            (None, None) => DEFAULT_COUNT,
        };
        let (mut whitelist, mut blacklist) = self.filters.into_lists();
        whitelist.extend(self.allowlist);
        blacklist.extend(self.denylist);
        GetFlowsRequest {
            number,
            follow: self.follow,
            blacklist,
            whitelist,
            // All of the past, and then what comes.
            since: self.since.or((self.all && self.follow).then(Default::default)),
            until: self.until,
            first: self.first.is_some(),
            ..GetFlowsRequest::default()
        }
    }
}

async fn show(
    server: &Server,
    client: &Client,
    request: GetFlowsRequest,
    mut printer: Printer<'_>,
) -> anyhow::Result<ExitCode> {
    let mut observer = server.connect(client.socket()).await?;
    let mut responses = match observer.get_flows(request).await {
        Ok(responses) => responses.into_inner(),
        Err(status) => return refused(&status),
    };
    loop {
        match responses.message().await {
            Ok(Some(response)) => printer.add(&response)?,
            Ok(None) => {
                printer.finish()?;
                return Ok(ExitCode::SUCCESS);
            }
            Err(status) => {
                printer.finish()?;
                return refused(&status);
            }
        }
    }
}

fn refused(status: &Status) -> anyhow::Result<ExitCode> {
    match status.code() {
        Code::InvalidArgument | Code::OutOfRange => {
            eprintln!("Error: {}", status.message());
            Ok(ExitCode::from(WRONG_USAGE))
        }
        Code::Unavailable | Code::Unknown | Code::Cancelled => {
            anyhow::bail!("the server of flows is gone: {}", status.message())
        }
        code => anyhow::bail!("the server of flows says: {} ({code})", status.message()),
    }
}

#[cfg(test)]
mod tests;
