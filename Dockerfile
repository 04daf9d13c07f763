FROM rust:1.95.0-slim-bookworm AS build
WORKDIR /src

# The dependencies are compiled in a layer of their own, which only Cargo.toml and Cargo.lock change. Cargo compiles them only for
# some crate: here for an empty library, which is then removed, or cargo, which goes by the times of files, could take it for the
# receiver's own. The benchmark is there because cargo wants every file that Cargo.toml names.
COPY Cargo.toml Cargo.lock ./
COPY .cargo/config.toml .cargo/
RUN mkdir benches src \
    && touch benches/load.rs src/lib.rs \
    && cargo build --release --locked --lib \
    && cargo clean --release --locked --package plugchat-receiver

COPY build.rs ./
COPY src src
# For --version and the image's label: docker build --build-arg REVISION="$(git rev-parse HEAD)" .
ARG REVISION
RUN PLUGCHAT_RECEIVER_COMMIT=$REVISION cargo build --release --locked

COPY deploy/rootfs.sh deploy/
RUN deploy/rootfs.sh target/release/plugchat-receiver /rootfs

# Nothing but what the receiver needs: no shell, no package manager.
FROM scratch
COPY --from=build /rootfs/ /
ENV PLUGCHAT_RECEIVER__SERVER__LISTEN=0.0.0.0:8080
ENV PLUGCHAT_RECEIVER__STORE__SQLITE__PATH=/data
# What SQLite sorts outside of memory goes here: nothing else has to be writable.
ENV SQLITE_TMPDIR=/data
USER 65532:65532
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["/plugchat-receiver", "healthcheck"]
ENTRYPOINT ["/plugchat-receiver"]
CMD ["serve"]

# The commit that is built: docker build --build-arg REVISION="$(git rev-parse HEAD)"
ARG REVISION
LABEL org.opencontainers.image.title="plugchat-receiver" \
      org.opencontainers.image.description="Receives WhatsApp message-status callbacks from Plugchat and Z-API, durably, and hands each status change on" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0 OR MIT" \
      org.opencontainers.image.revision="$REVISION"
