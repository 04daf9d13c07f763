FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
# For --version: docker build --build-arg COMMIT=$(git rev-parse HEAD) .
ARG COMMIT
# The caches keep the compiled dependencies between builds. They also outlive this checkout, so the sources are touched:
# otherwise cargo could take an older file for one that it has compiled already.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,sharing=locked \
    touch build.rs src/lib.rs src/main.rs \
    && PLUGCHAT_RECEIVER_COMMIT=$COMMIT cargo build --release --locked \
    && deploy/rootfs.sh target/release/plugchat-receiver /rootfs

# Nothing but what the receiver needs: no shell, no package manager.
FROM scratch
COPY --from=build /rootfs/ /
ENV PLUGCHAT_RECEIVER__SERVER__LISTEN=0.0.0.0:8080
ENV PLUGCHAT_RECEIVER__STORE__SQLITE__PATH=/data
USER 65532:65532
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["/plugchat-receiver", "healthcheck"]
ENTRYPOINT ["/plugchat-receiver"]
CMD ["serve"]
